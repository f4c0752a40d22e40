package torture

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/streamer"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// settled is a torture after which everything is in order: ten rides in the
// streams of some partitions.
func settled(t *testing.T, partitions int) (s *torture, stream string, out *bytes.Buffer) {
	t.Helper()
	ctx := t.Context()
	out = new(bytes.Buffer)
	s = &torture{Config: Config{DataDir: t.TempDir(), Out: out}, watch: newWatch()}
	s.db = testenv.Database(t, "torture", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer, rides.MigrationSet)
	})
	if _, err := migration.Repartition(ctx, s.db, partitions); err != nil {
		t.Fatal(err)
	}
	url := testenv.PatientRedis(testenv.SharedRedis(t))
	stream = testenv.StreamName(t)
	var err error
	must := func() {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	log, err := redislog.Open(ctx, url, stream)
	must()
	s.log = log
	t.Cleanup(log.Close)
	option, err := rueidis.ParseURL(url)
	must()
	option.DisableCache = true
	s.redis, err = rueidis.NewClient(option)
	must()
	t.Cleanup(s.redis.Close)

	acks, err := os.Create(s.acknowledged())
	must()
	for range 10 {
		var ack rides.Acknowledgement
		distance, err := rides.ParseDistance("12.5")
		if err != nil {
			t.Fatal(err)
		}
		ack.Sent = time.Now()
		ride, err := rides.CreateRide(ctx, s.db, "", distance)
		if err != nil {
			t.Fatal(err)
		}
		ack.Answered, ack.ID, ack.Distance, ack.Key = time.Now(), ride.ID, "12.5", fmt.Sprint("key ", ride.ID)
		_, err = s.db.Exec(ctx, `INSERT INTO idempotency_keys (slot, key, fingerprint, ride_id, created_at, distance)
			SELECT 0, $1, $1, id, created_at, distance FROM rides WHERE id = $2`, [16]byte(rides.HashKey("", ack.Key)), ack.ID)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.NewEncoder(acks).Encode(ack); err != nil {
			t.Fatal(err)
		}
	}
	err = acks.Close()
	must()
	published, publish := context.WithCancel(ctx)
	defer publish()
	var appended atomic.Int64
	streamer, err := streamer.New(streamer.Config{DB: s.db, Log: s.log, SessionTimeout: await.Patience, Hooks: streamer.Hooks{
		AfterAppend: func(_ context.Context, entries []unilog.Entry) error {
			if appended.Add(int64(len(entries))) == 10 {
				publish()
			}
			return nil
		},
	}})
	must()
	err = streamer.Run(published)
	must()
	for _, name := range consumerNames {
		state := rides.Consumer{Name: name}
		consumer, err := consumer.New(consumer.Config{Name: name, DB: s.db, Log: s.log, Handler: state.Handle})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := consumer.RunOnce(ctx); err != nil {
			t.Fatal(err)
		}
	}
	return s, stream, out
}

// removed is SQL that takes one record out of the archive.
func removed(partition, offset int) string {
	return fmt.Sprintf(`
WITH whole AS (
    DELETE FROM unilog.batches WHERE partition = %[1]d AND %[2]d BETWEEN first_offset AND last_offset
    RETURNING *
), parts AS (
    SELECT w.*, p.first, p.last, (p.first - first_offset + 1)::integer AS lo, (p.last - first_offset + 1)::integer AS hi
    FROM whole AS w CROSS JOIN LATERAL (VALUES (first_offset, %[2]d - 1), (%[2]d + 1, last_offset)) AS p (first, last)
)
INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
SELECT partition, first, last, bytes, staged_at[lo:hi], action[lo:hi], object[lo:hi], key[lo:hi], data[lo:hi], headers[lo:hi]
FROM parts WHERE first <= last`, partition, offset)
}

// changed is SQL that changes a column of one record in the archive. The new value is
// made of the columns as they were.
func changed(partition, offset int, column, value string) string {
	return fmt.Sprintf(`
UPDATE unilog.batches SET %[3]s[%[2]d - first_offset + 1] = (SELECT (%[4]s)::text FROM unilog.records_between(%[1]d, %[2]d - 1, %[2]d))
WHERE partition = %[1]d AND %[2]d BETWEEN first_offset AND last_offset`, partition, offset, column, value)
}

// TestJudge breaks each promise, one at a time, and sees that this one is said
// to be broken.
func TestJudge(t *testing.T) {
	t.Parallel()
	sql := func(statement string) func(*testing.T, *torture, string) {
		return func(t *testing.T, s *torture, _ string) {
			if _, err := s.db.Exec(t.Context(), statement); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, c := range map[string]struct {
		damage func(*testing.T, *torture, string)
		broken string
	}{
		"nothing":           {func(*testing.T, *torture, string) {}, ""},
		"a ride is lost":    {sql(`DELETE FROM rides WHERE id = 3`), "every acknowledged ride is in the database: 9 of 10"},
		"a ride is doubled": {sql(`INSERT INTO rides (distance) VALUES (12.5)`), "11 rides of 10 keys"},
		"another's answer":  {sql(`UPDATE idempotency_keys SET ride_id = 11 - ride_id WHERE ride_id IN (2, 9)`), "2 acknowledged with another's answer"},
		"a record is lost":  {sql(removed(0, 3)), "exactly once: 10 rides, 1 lost"},
		"a gap":             {sql(removed(0, 3)), "have no gaps: 9 records in 1 partitions, 1 of them with gaps"},
		"an offset twice": {sql(removed(0, 3) + `;
			INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
			SELECT partition, "offset", "offset", 0, ARRAY[staged_at], ARRAY[action], ARRAY[object], ARRAY[key], ARRAY[data::text], ARRAY[headers::text]
			FROM unilog.records WHERE "offset" = 4`), "10 records in 1 partitions, 1 of them with gaps"},
		"a record twice":     {sql(changed(0, 3, "data", `(SELECT data FROM unilog.records_between(0, 3, 4))`)), "1 lost, 1 doubled"},
		"another distance":   {sql(`UPDATE rides SET distance = 12.6 WHERE id = 3`), "every acknowledged ride is in the database: 9 of 10"},
		"another record":     {sql(changed(0, 3, "data", `data || '{"distance": 1}'`)), "0 lost, 0 doubled, 1 strange"},
		"no distance":        {sql(changed(0, 3, "data", `data - 'distance'`)), "0 lost, 0 doubled, 1 strange"},
		"another action":     {sql(changed(0, 3, "action", `'update'`)), "1 differ from the archive"},
		"an archive apart":   {sql(changed(0, 3, "data", `data || '{"distance": 1}'`)), "1 differ from the archive"},
		"a total apart":      {sql(`UPDATE consumer_states SET total_distance = 125.01 WHERE name = 'consumer1'`), "consumer1 125.01 of 125.0 m"},
		"a consumer missing": {sql(`DELETE FROM consumer_states WHERE name = 'consumer1'; DELETE FROM unilog.checkpoints WHERE name = 'consumer1'`), "every consumer has the total"},
		"a record parked": {sql(`INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
			SELECT 'consumer1', partition, "offset", staged_at, action, object, key, '{}', headers, '' FROM unilog.records WHERE "offset" = 3`), "1 parked"},
		"another order": {sql(`UPDATE unilog.batches SET data = ARRAY(
			SELECT (r::jsonb || jsonb_build_object('id', 11 - (r::jsonb ->> 'id')::bigint))::text
			FROM unnest(data) WITH ORDINALITY AS d (r, n) ORDER BY n)`), "9 out of order"},
		"a hole in the stream": {func(t *testing.T, s *torture, stream string) {
			if err := s.redis.Do(t.Context(), s.redis.B().Xdel().Key(stream).Id("9-0").Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}, "1 are missing, 0 had been deleted"},
		"a stream cut off": {func(t *testing.T, s *torture, stream string) {
			if err := s.redis.Do(t.Context(), s.redis.B().Xdel().Key(stream).Id("10-0").Build()).Error(); err != nil {
				t.Fatal(err)
			}
		}, "9 entries, 0 differ from the archive, 0 are missing, 0 had been deleted, 1 of 1 partitions end elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, stream, out := settled(t, 1)
			c.damage(t, s, stream)
			saysBroken(t, s, out, c.broken)
		})
	}
}

// saysBroken has a torture judged, of which one promise is broken, or none.
func saysBroken(t *testing.T, s *torture, out *bytes.Buffer, broken string) {
	t.Helper()
	err := s.judge(t.Context())
	if broken == "" {
		if err != nil || strings.Contains(out.String(), "BROKEN") {
			t.Errorf("%v:\n%s", err, out)
		}
		return
	}
	if !errors.Is(err, ErrViolated) {
		t.Errorf("the error is %v", err)
	}
	said := false
	for line := range strings.Lines(out.String()) {
		said = said || strings.HasPrefix(line, "BROKEN") && strings.Contains(line, broken)
	}
	if !said {
		t.Errorf("not said to be broken: %s\n%s", broken, out)
	}
}

// TestJudgePartitions breaks what is promised of each partition in one of two.
func TestJudgePartitions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		sql    string
		cut    bool // the stream
		broken string
	}{
		"nothing":          {},
		"a gap":            {removed(1, 2), false, "9 records in 2 partitions, 1 of them with gaps"},
		"an archive apart": {changed(1, 2, "action", `'update'`), false, "1 differ from the archive"},
		"another order": {`
			UPDATE unilog.batches
			SET data = (ARRAY(SELECT data::text FROM unilog.records WHERE partition = 1 ORDER BY "offset" DESC))[first_offset:last_offset]
			WHERE partition = 1`, false, "out of order"},
		"a stream cut off": {"", true, "1 of 2 partitions end elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, stream, out := settled(t, 2)
			if _, err := s.db.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			if c.cut {
				newest, err := (&injection{torture: s}).newest(t.Context(), stream+":1", 1)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.redis.Do(t.Context(), s.redis.B().Xdel().Key(stream+":1").Id(newest...).Build()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			saysBroken(t, s, out, c.broken)
		})
	}
}

// TestBase sees that the shortened audit is right with writers that stay open.
func TestBase(t *testing.T) {
	t.Parallel()
	s, _, _ := settled(t, 1)
	ctx := t.Context()
	insert := `INSERT INTO rides (distance) SELECT 0.1 FROM generate_series(1, $1)`
	open, err := s.db.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.Exec(ctx, insert, 1); err != nil {
		t.Fatal(err)
	}
	exec := func(sql string, args ...any) {
		t.Helper()
		if _, err := s.db.Exec(ctx, sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec(insert, baseRides)
	look := func(want int64) {
		t.Helper()
		for range 5 {
			await.That(t, "a look that is in time", func() string {
				_, err := s.watch.look(ctx, s.db)
				if errors.Is(err, context.DeadlineExceeded) {
					return err.Error()
				}
				if !errors.Is(err, ErrViolated) {
					t.Fatalf("rides without records are not a violation: %v", err)
				}
				return ""
			})
			tx, err := s.db.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := s.watch.base.advance(ctx, tx); err != nil {
				t.Fatal(err)
			}
			if err := tx.Rollback(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if s.watch.base.upTo != want {
			t.Errorf("the base goes up to %d, want %d", s.watch.base.upTo, want)
		}
	}
	look(0) // ride 11 is open
	if err := open.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	newest := int64(10 + 1 + baseRides)
	look(newest)
	if want := fmt.Sprintf("%.1f", 125+0.1*(baseRides+1)); s.watch.base.sum != want {
		t.Errorf("the base is %s, want %s", s.watch.base.sum, want)
	}
	exec(insert, 7)
	balances, err := s.watch.base.audit().Check(ctx, s.db)
	if err != nil || balances[0].Truth != fmt.Sprintf("%.1f", 125+0.1*(baseRides+8)) {
		t.Errorf("truth: %+v, %v", balances, err)
	}
}
