package status_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/status"
)

func TestStatusAddsPartitionsUp(t *testing.T) {
	t.Parallel()
	w, _ := withPartitions(t)
	defer forget(w)
	w.Commit("1", "2")
	w.Exec(`DELETE FROM checkpoints WHERE partition = 1`) // not registered there yet
	w.Exec(`UPDATE checkpoints SET "offset" = "offset" - 3 WHERE partition = 2`)
	w.Exec(`UPDATE log_records SET staged_at = now() - interval '4 hours' WHERE partition = 2`)
	w.Exec(`INSERT INTO consumer_members (name, member, seen_at) VALUES
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

// TestStatusOfManyPartitions sees that each look at the archive goes to the chunks
// of its partition alone.
func TestStatusOfManyPartitions(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const partitions = 12
	w.Repartition(partitions, 1)
	w.CommitMany(10 * partitions)
	w.Drain(w.Streamer())
	w.Exec(`INSERT INTO checkpoints (name, partition, "offset") SELECT 'sum', partition, 1 FROM log_partitions`)
	defer forget(w)
	for name, sql := range map[string]string{"partitions": status.SQLPartitions, "consumers": status.SQLConsumers} {
		plan := w.Explain(sql)
		looks := regexp.MustCompile(`.* on log_records_p.*`).FindAllString(plan, -1)
		w.WantCount(name+": chunks", len(looks), partitions)
		for _, look := range looks {
			if !strings.Contains(look, "Index") || !strings.Contains(look, "loops=1)") {
				t.Errorf("%s: %s", name, look)
			}
		}
	}
	s := w.Status()
	if s.Numbered != 10*partitions || len(s.Partitions) != partitions || len(s.Consumers[0].Behind) != partitions {
		t.Errorf("the status is %+v", s)
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
	status, err := status.Read(w.Ctx, w.DB, w.Log)
	w.Must(err)
	for _, trouble := range world.Steady(status).Troubles() {
		t.Error(trouble)
	}
	if status.Log.Offset != 1 || status.Numbered != 1 {
		t.Errorf("the log is at %d of %d, want what the snapshot has", status.Log.Offset, status.Numbered)
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
	w.Exec(`DELETE FROM log_records WHERE "offset" <= 2`)
	w.Exec(`UPDATE log_records SET staged_at = now() - interval '2 hours'`)
	if c := world.Steady(w.Status()).Consumers[0]; c.Lag != 4 || c.LagSeconds != 7200 {
		t.Errorf("the next record is gone, and the status is %+v", c)
	}

	// What nobody has published is not the consumer's fault.
	w.Exec(`UPDATE checkpoints SET "offset" = 3`)
	w.Exec(`UPDATE log_partitions SET published_offset = 3`)
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
	w := world.Setup(t)
	w.Drain(w.Streamer())
	conn, err := w.DB.Acquire(w.Ctx)
	w.Must(err)
	defer conn.Release()
	role := "blind_" + world.Query[string](w, `SELECT current_database()`) // a role is the whole server's
	for _, sql := range []string{
		`CREATE ROLE ` + role,
		`GRANT SELECT ON ALL TABLES IN SCHEMA public TO ` + role,
		`SET ROLE ` + role,
	} {
		_, err := conn.Exec(w.Ctx, sql)
		w.Must(err)
	}
	defer func() {
		_, err := conn.Exec(w.Ctx, `RESET ROLE; DROP OWNED BY `+role+`; DROP ROLE `+role)
		w.Must(err)
	}()
	s, err := status.Read(w.Ctx, conn, nil)
	w.Must(err)
	if s.Leader == nil || s.Leader.Seconds != 0 || s.Leader.User == "" {
		t.Errorf("the leader is %+v", s.Leader)
	}
}
