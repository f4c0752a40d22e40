package status_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/status"
)

func TestStatusAddsPartitionsUp(t *testing.T) {
	t.Parallel()
	w, _ := withPartitions(t)
	defer forget(w)
	w.Commit("1", "2")
	w.Exec(`DELETE FROM unilog.checkpoints WHERE partition = 1`) // not registered there yet
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = "offset" - 3 WHERE partition = 2`)
	w.DateArchive(2, "4 hours")
	w.Exec(`INSERT INTO unilog.members (name, member, seen_at) VALUES
		('sum', gen_random_uuid(), now() + interval '1 hour'), ('sum', gen_random_uuid(), now() + interval '1 hour'), ('sum', gen_random_uuid(), now() - interval '1 minute')`)
	s := world.Steady(w.Status())
	if s.Numbered != 100 || s.Published != 100 || s.Log.Offset != 100 || s.First != 1 || s.Staged != 2 || s.Log.Partitions != 4 || s.Leaders() != 4 {
		t.Errorf("the status is %+v", s)
	}
	var numbered, published, head int64
	for i, p := range s.Partitions {
		numbered, published, head = numbered+p.Numbered, published+p.Published, head+p.Log.Offset
		if p.Partition != i || !p.Active || p.Leader == nil || p.Epoch == 0 || p.First != 1 || p.Numbered == 0 || p.Trouble != "" || p.LogError != "" {
			t.Errorf("partition %d: %+v", i, p)
		}
	}
	if len(s.Partitions) != 4 || numbered != 100 || published != 100 || head != 100 {
		t.Errorf("the partitions are %+v", s.Partitions)
	}
	lag := s.Partitions[1].Numbered
	c := s.Consumers[0]
	if len(s.Consumers) != 1 || c.Checkpoint != 97-lag || c.Lag != lag+3 || c.Slowest != 2 || c.LagSeconds != 4*3600 || c.Processes != 2 {
		t.Errorf("the consumer is %+v", c)
	}
	if len(c.Behind) != 2 || c.Behind[0].Partition != 1 || c.Behind[0].Lag != lag || c.Behind[1].Partition != 2 || c.Behind[1].Lag != 3 {
		t.Errorf("the consumer is behind in %+v", c.Behind)
	}
	c.Behind[1].LagSeconds = 4 // not long enough to be worth mentioning
	if troubles := s.Troubles(); len(troubles) > 0 {
		t.Errorf("the troubles are %q", troubles)
	}
}

// TestStatusOfALargeArchive sees that the status looks at one batch of each partition,
// and at one for each consumer.
func TestStatusOfALargeArchive(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const partitions, batches = 12, 2000
	w.Repartition(partitions, 1)
	w.FillArchive(batches)
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") SELECT 'sum', partition, 1000 FROM unilog.partitions`)
	defer forget(w)
	w.Exec(`INSERT INTO unilog.readers (name, partition, "offset") SELECT 'mails', partition, 1000 FROM unilog.partitions`)
	nobody := []any{[]string{}, []int32{}, []int64{}, []float64{}, []string{"sum"}}
	for name, sql := range map[string]string{"partitions": status.SQLPartitions, "consumers": status.SQLConsumers, "elsewhere": status.SQLElsewhere} {
		var args []any
		if name == "elsewhere" {
			args = nobody
		}
		plan := w.Explain(sql, args...)
		looks := regexp.MustCompile(`.* on batches.*`).FindAllString(plan, -1)
		want := regexp.MustCompile(`Index (Only )?Scan using batches_pkey on batches.* \(actual rows=1(\.00)? loops=12\)`)
		if len(looks) != 1 || !want.MatchString(looks[0]) {
			t.Errorf("%s: want one look at the index in\n%s", name, plan)
		}
	}
	s, err := status.Read(w.Ctx, w.DB, "", nil)
	w.Must(err)
	if s.Numbered != batches*partitions || len(s.Partitions) != partitions || len(s.Consumers[0].Behind) != partitions ||
		len(s.Consumers) != 2 || !s.Consumers[1].Elsewhere || s.Consumers[1].Lag != s.Consumers[0].Lag {
		t.Errorf("the status is %+v", s)
	}
}

// TestStatusOfWhoNumbers has two streamers, of which the one numbers and the other leads.
func TestStatusOfWhoNumbers(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var pids []int32
	for _, lock := range []string{
		locks.Leader + `, 0`, fmt.Sprintf(`%s, %d`, locks.Staged, locks.Numberer), fmt.Sprintf(`%s, %d`, locks.Staged, locks.Member),
	} {
		conn, err := w.DB.Acquire(w.Ctx)
		w.Must(err)
		defer func() { w.Must(conn.Hijack().Close(w.Ctx)) }()
		_, err = conn.Exec(w.Ctx, `SELECT pg_advisory_lock(`+lock+`)`)
		w.Must(err)
		pids = append(pids, int32(conn.Conn().PgConn().PID()))
	}
	w.Commit("1")
	s := w.Status()
	if s.Leader == nil || s.Leader.PID != pids[0] || s.Numberer == nil || s.Numberer.PID != pids[1] || s.Leaders() != 1 {
		t.Errorf("session %d leads and %d numbers; the status has %+v and %+v", pids[0], pids[1], s.Leader, s.Numberer)
	}
	s.Old, s.StagedFor = nil, 60
	numbers := fmt.Sprintf("staged records wait for 60 s to be numbered: see what the streamer logs (session %d)", pids[1])
	if troubles := s.Troubles(); len(troubles) != 1 || troubles[0] != numbers {
		t.Errorf("the troubles are %q, want %q", troubles, numbers)
	}
	s.Numberer = nil
	nobody := "staged records wait for 60 s to be numbered: no streamer does it; see what they log"
	if troubles := s.Troubles(); len(troubles) != 1 || troubles[0] != nobody {
		t.Errorf("the troubles are %q, want %q", troubles, nobody)
	}
}

// TestStatusWithoutConsumersTables reads the database of writers whose consumers keep
// their checkpoints elsewhere, and of another log than the one beside it.
func TestStatusWithoutConsumersTables(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const tenant = unilog.Schema("tenant")
	w.Must(migration.In(tenant).Up(w.Ctx, w.DB, migration.Log))
	w.Must(tenant.Stage(w.Ctx, w.DB, world.Record("1")))
	w.Exec(`UPDATE tenant.partitions SET epoch = 5`)
	s, err := status.Read(w.Ctx, w.DB, tenant, nil)
	w.Must(err)
	if s.Staged != 1 || s.Epoch != 5 || s.LogID != world.Query[string](w, `SELECT log_id::text FROM tenant.log`) || len(s.Consumers) != 0 {
		t.Errorf("the status is %+v", s)
	}
	if other, err := status.Read(w.Ctx, w.DB, "", nil); err != nil || other.Staged != 0 || other.Epoch != 0 {
		t.Errorf("the status of the log beside it is %+v, %v", other, err)
	}
	if _, err := status.Read(w.Ctx, w.DB, "No", nil); err == nil || !strings.Contains(err.Error(), "the schema's name") {
		t.Errorf("of a schema that cannot be: %v", err)
	}
}

// TestStatusOfALogThatGrows sees that a log which is read after the database is not
// taken for one that is ahead of it.
func TestStatusOfALogThatGrows(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Head" && call.Partition == 0 {
			w.Memory.Intercept(nil)
			w.Commit("1", "1")
			w.Drain(s)
		}
		return do(context.WithoutCancel(ctx)) // however long that took
	})
	status, err := status.Read(w.Ctx, w.DB, "", w.Log)
	w.Must(err)
	for _, trouble := range world.Steady(status).Troubles() {
		t.Error(trouble)
	}
	if status.Log.Offset != 1 || status.Numbered != 1 {
		t.Errorf("the log is at %d of %d, want what the snapshot has", status.Log.Offset, status.Numbered)
	}
}

// TestStatusInsideABatch lets records of a batch be of several ages.
func TestStatusInsideABatch(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.CommitMany(4)
	w.Drain(s)
	w.Consume(w.Consumer("sum"))
	w.Exec(`UPDATE unilog.batches SET staged_at = (
		SELECT array_agg(now() - make_interval(hours => 5 - n) ORDER BY n) FROM generate_series(1, 4) AS n)`)
	for checkpoint, hours := range []float64{4, 3, 2, 1, 0} {
		w.Exec(`UPDATE unilog.checkpoints SET "offset" = $1`, checkpoint)
		if c := world.Steady(w.Status()).Consumers[0]; c.LagSeconds != 3600*hours {
			t.Errorf("after offset %d, the next record waits for %v s, want %v", checkpoint, c.LagSeconds, 3600*hours)
		}
	}
}

func TestStatusLagDoesNotLie(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.CommitMany(4)
	w.Drain(s)
	w.Consume(w.Consumer("sum"))
	fallBehind(w, "0")

	// The next record is gone: the next but one is what is known.
	w.LoseArchive(0, 2)
	w.DateArchive(0, "2 hours")
	if c := world.Steady(w.Status()).Consumers[0]; c.Lag != 4 || c.LagSeconds != 7200 {
		t.Errorf("the next record is gone, and the status is %+v", c)
	}

	// What nobody has published is not the consumer's fault.
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 3`)
	w.Exec(`UPDATE unilog.partitions SET published_offset = 3`)
	status := world.Steady(w.Status())
	if c := status.Consumers[0]; c.Lag != 1 || c.LagSeconds != 7200 || len(status.Troubles()) > 0 {
		t.Errorf("the next record is not published, the consumer is %+v, and the troubles %q", c, status.Troubles())
	}
	w.Exec(`UPDATE sums SET total = 3`)
}

// TestStatusWithoutTheRightToSeeSessions reads it as a role that may read the
// tables, but knows of others' sessions only that they are there.
func TestStatusWithoutTheRightToSeeSessions(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Drain(w.Streamer())
	conn, err := w.DB.Acquire(w.Ctx)
	w.Must(err)
	defer conn.Release()
	role := "blind_" + world.Query[string](w, `SELECT current_database()`) // a role is the whole server's
	for _, sql := range []string{
		`CREATE ROLE ` + role,
		`GRANT USAGE ON SCHEMA unilog TO ` + role,
		`GRANT SELECT ON ALL TABLES IN SCHEMA unilog TO ` + role,
		`SET ROLE ` + role,
	} {
		_, err := conn.Exec(w.Ctx, sql)
		w.Must(err)
	}
	defer func() {
		_, err := conn.Exec(w.Ctx, `RESET ROLE; DROP OWNED BY `+role+`; DROP ROLE `+role)
		w.Must(err)
	}()
	s, err := status.Read(w.Ctx, conn, "", nil)
	w.Must(err)
	if s.Leader == nil || s.Leader.Seconds != 0 || s.Leader.User == "" {
		t.Errorf("the leader is %+v", s.Leader)
	}

	// A hosted server may hide sessions altogether.
	w.Exec(`REVOKE SELECT ON pg_stat_activity FROM PUBLIC; REVOKE EXECUTE ON FUNCTION pg_terminate_backend FROM PUBLIC`)
	seen := s.Leader.PID
	s, err = status.Read(w.Ctx, conn, "", nil)
	w.Must(err)
	if s.Leader == nil || s.Leader.PID != seen || s.Leader.User != "unknown" || s.Leader.Address != "unknown" || s.Numberer == nil || len(s.Old) > 0 {
		t.Errorf("without a view of sessions, the leader is %+v, who numbers %+v", s.Leader, s.Numberer)
	}
}

// TestStatusSaysFromWhomRowsAreHidden reads it as the owner, who sees all of them.
func TestStatusSaysFromWhomRowsAreHidden(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	user := "bound_" + world.Query[string](w, `SELECT current_database()`) // a role is the whole server's
	w.Exec(`CREATE ROLE ` + user + ` LOGIN; GRANT USAGE ON SCHEMA unilog TO ` + user + `; GRANT SELECT ON unilog.members TO ` + user)
	w.Exec(`ALTER TABLE unilog.members ENABLE ROW LEVEL SECURITY; ALTER TABLE unilog.places ENABLE ROW LEVEL SECURITY`)
	w.Cleanup(func() {
		_, err := w.DB.Exec(context.Background(), `DROP OWNED BY `+user+`; DROP ROLE `+user)
		w.Must(err)
	})
	hidden := func() string { return fmt.Sprint(w.Status().Hidden) }
	if got := hidden(); got != "[]" {
		t.Errorf("hidden from nobody who is connected: %s", got)
	}
	config := w.DB.Config().ConnConfig.Copy()
	config.User = user
	conn, err := pgx.ConnectConfig(w.Ctx, config)
	w.Must(err)
	t.Cleanup(func() { w.Must(conn.Close(context.Background())) }) // before the role is dropped
	if got := hidden(); got != "[{members "+user+"}]" {
		t.Errorf("hidden: %s", got)
	}
	if says := strings.Join(w.Status().Troubles(), "\n"); !strings.Contains(says, "row level security hides rows of members from user "+user) {
		t.Errorf("the troubles are %q", says)
	}
	w.Exec(`ALTER ROLE ` + user + ` BYPASSRLS`)
	if got := hidden(); got != "[]" {
		t.Errorf("hidden from nobody whom it binds: %s", got)
	}
}
