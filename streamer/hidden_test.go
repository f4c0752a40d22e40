package streamer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

// TestConsumersThatCannotBeSeenAreKept hides the checkpoints from the streamer, which
// must not take that for there being no consumers.
func TestConsumersThatCannotBeSeenAreKept(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	bound := w.Bound()
	s := w.Streamer(func(cfg *streamer.Config) { cfg.DB, cfg.KeepRecords, cfg.Retention = bound, 100, 1 })
	c := w.Consumer("sum")
	w.Consume(c) // which registers it
	all := 1000
	w.CommitMany(all)
	for name, how := range map[string]struct{ hide, show, says string }{
		"row level security": {
			`ALTER TABLE unilog.checkpoints ENABLE ROW LEVEL SECURITY`,
			`ALTER TABLE unilog.checkpoints DISABLE ROW LEVEL SECURITY`, "BYPASSRLS",
		},
		"no right": {
			`REVOKE ALL ON unilog.checkpoints FROM pg_monitor`,
			`GRANT ALL ON unilog.checkpoints TO pg_monitor`, "permission denied for table checkpoints",
		},
		"no right to a column": {
			`REVOKE ALL ON unilog.checkpoints FROM pg_monitor; GRANT SELECT (name, partition, "offset") ON unilog.checkpoints TO pg_monitor`,
			`GRANT ALL ON unilog.checkpoints TO pg_monitor`, "permission denied for table checkpoints",
		},
		"a view": {
			`ALTER TABLE unilog.checkpoints RENAME TO hidden;
			CREATE VIEW unilog.checkpoints AS SELECT * FROM unilog.hidden WHERE false; GRANT ALL ON unilog.checkpoints TO pg_monitor`,
			`DROP VIEW unilog.checkpoints; ALTER TABLE unilog.hidden RENAME TO checkpoints`, "unilog.checkpoints is no table",
		},
		"a view of all rows of another table": {
			`ALTER TABLE unilog.places RENAME TO hidden; CREATE VIEW unilog.places AS SELECT * FROM unilog.hidden`,
			`DROP VIEW unilog.places; ALTER TABLE unilog.hidden RENAME TO places`, "unilog.places is no table",
		},
	} {
		w.Exec(how.hide)
		w.CommitMany(1)
		all++
		w.Drain(s)
		upkeep(w, s)
		w.WantCount("entries of the log, "+name, w.LogLength(), all)
		w.WantCount("records of the archive, "+name, world.Query[int](w, `SELECT count(*) FROM unilog.records`), all)
		w.WantReady(s.Ready, how.says)
		w.Exec(how.show)
		upkeep(w, s)
		w.WantReady(s.Ready, "")
	}
	w.Consume(c)
	upkeep(w, s)
	if n := w.LogLength(); n == all {
		t.Errorf("nothing is trimmed of %d entries that everyone has read", n)
	}
}

// TestNotReadyBetweenTwoAttempts has the log fail for the only streamer that there is.
func TestNotReadyBetweenTwoAttempts(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	noLog := errors.New("no log today")
	var slow atomic.Bool
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.Observer.Failed = func(err error) { slow.Store(slow.Load() || !errors.Is(err, noLog)) }
	})
	attempts := make(chan error, 1)
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Head" {
			attempts <- s.Ready()
		}
		return noLog
	})
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var running errgroup.Group
	running.Go(func() error { return s.Run(ctx) })
	for i := 0; i < 6; i++ {
		ready := await.Receive(t, "an attempt to lead", attempts)
		if slow.Swap(false) { // a session that was given up may still have its locks, as another streamer would
			i = -1
			continue
		}
		if ready == nil && i > 0 {
			t.Errorf("it was ready before attempt %d, after failures", i+1)
		}
	}
	stop()
	go func() {
		for range attempts { // of what was under way
		}
	}()
	w.Memory.Intercept(nil)
	w.Ended("the streamer", &running)
	close(attempts)
}

// TestHeadsThatCannotBeSeen has a view without rows in the place of a table.
func TestHeadsThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	for _, table := range []string{"log", "partitions"} {
		w.Exec(`ALTER TABLE unilog.` + table + ` RENAME TO hidden; CREATE VIEW unilog.` + table + ` AS SELECT * FROM unilog.hidden WHERE false`)
		s := w.Streamer()
		_, err := w.Patiently(s.RunOnce)
		if err == nil {
			t.Errorf("it runs without rows of %s", table)
		}
		w.WantReady(s.Ready, "unilog."+table+" is no table")
		w.Exec(`DROP VIEW unilog.` + table + `; ALTER TABLE unilog.hidden RENAME TO ` + table)
	}
}

// TestSequenceThatCannotBeSeen takes the right to see which id was drawn last. Newer
// versions of Postgres then say that none was.
func TestSequenceThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	bound := w.Bound()
	s := w.Streamer(func(cfg *streamer.Config) { cfg.DB = bound })
	w.Exec(`REVOKE ALL ON SEQUENCE unilog.staged_records_id_seq FROM pg_monitor`)
	w.Commit("1")
	if n, err := w.Patiently(s.RunOnce); n > 0 || err == nil {
		t.Errorf("it numbers %d records, %v", n, err)
	}
	w.WantReady(s.Ready, "GRANT SELECT ON SEQUENCE unilog.staged_records_id_seq")
	w.Exec(`GRANT USAGE ON SEQUENCE unilog.staged_records_id_seq TO pg_monitor`)
	w.WantCount("records that are streamed", w.Drain(s), 1)
}
