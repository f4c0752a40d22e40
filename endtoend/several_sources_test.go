package endtoend_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

// at gives a consumer a state elsewhere, and no archive.
func at(w *world.World) func(*consumer.Config) {
	return func(cfg *consumer.Config) { cfg.DB, cfg.Archive = w.DB, nil }
}

// sqlEachSourceOnce is what a consumer of several sources adds to its tables.
const sqlEachSourceOnce = `CREATE UNIQUE INDEX each_source_once ON unilog.checkpoints (log_id, partition) WHERE name LIKE 'totals/%'`

// TestSeveralSources makes one state of the logs of two databases, by a consumer
// for each, while all of them fail now and then.
func TestSeveralSources(t *testing.T) {
	t.Parallel()
	const records = 60
	sources := map[string]*world.World{"totals/eu": world.SetupSource(t), "totals/us": world.SetupSource(t)}
	state := world.StateElsewhere(t)
	state.Exec(sqlEachSourceOnce)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running errgroup.Group
	failures := map[string]*atomic.Int32{}
	for name, w := range sources {
		failed := new(atomic.Int32)
		failures[name] = failed
		s := w.Streamer(func(cfg *streamer.Config) {
			cfg.BatchRecords, cfg.Hooks.AfterAppend = 5, unilog.SimulateFailures(0.3, 1)
		})
		fail := unilog.SimulateFailures(0.5, 2)
		c := w.Consumer(name, at(state), func(cfg *consumer.Config) {
			cfg.BatchRecords = 5
			cfg.Hooks.BeforeCommit = func(ctx context.Context, entries []unilog.Entry) error {
				err := fail(ctx, entries)
				if err != nil {
					failed.Add(1)
				}
				return err
			}
		})
		running.Go(func() error { return s.Run(ctx) })
		running.Go(func() error { return c.Run(ctx) })
	}
	for range records {
		sources["totals/eu"].Commit("0.1")
		sources["totals/us"].Commit("1000.01")
	}
	for name := range sources {
		await.Equal(t, "the checkpoint of "+name, records, func() int {
			return world.Query[int](state, `SELECT coalesce(max("offset"), 0) FROM unilog.checkpoints WHERE name = $1`, name)
		})
	}
	stop()
	state.Must(running.Wait())
	for name, w := range sources {
		state.WantTotal(name, world.Query[string](w, `SELECT sum(amount)::text FROM amounts`))
		if failures[name].Load() == 0 {
			t.Errorf("%s never failed", name)
		}
	}
	if sum := world.Query[string](state, `SELECT sum(total)::text FROM sums`); sum != "60006.60" {
		t.Errorf("the sum over the sources is %s, want 60006.60", sum)
	}
}

// TestSourceReadTwice points both consumers of a state at one log.
func TestSourceReadTwice(t *testing.T) {
	t.Parallel()
	w, state := world.SetupOnRedis(t), world.StateElsewhere(t)
	state.Exec(sqlEachSourceOnce)
	w.Commit("1", "2")
	w.StreamAll()
	w.WantCount("applied", w.Consume(w.Consumer("totals/eu", at(state))), 2)
	n, err := w.Consumer("totals/us", at(state)).RunOnce(w.Ctx)
	if n != 0 || err == nil || !strings.Contains(err.Error(), "each_source_once") {
		t.Errorf("the second consumer of the log applied %d and says %v, want that each_source_once refuses it", n, err)
	}
	state.WantTotal("totals/us", "0")
	w.WantCount("applied by a consumer of another name", w.Consume(w.Consumer("other", at(state))), 2)
}

// TestLogOfAnotherDatabase gives a consumer the log of another database than the
// one whose records it has applied, with just the offsets that it waits for.
func TestLogOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(ours, theirs, state *world.World) *consumer.Consumer{
		"by its settings": func(_, theirs, state *world.World) *consumer.Consumer {
			return theirs.Consumer("sum", at(state))
		},
		"with its archive": func(_, theirs, state *world.World) *consumer.Consumer {
			return theirs.Consumer("sum", func(cfg *consumer.Config) { cfg.DB = state.DB })
		},
		"while it runs": func(ours, theirs, state *world.World) *consumer.Consumer {
			c := ours.Consumer("sum", at(state))
			ours.WantCount("applied with nothing new", ours.Consume(c), 0)
			ours.Wipe()
			theirs.Log = ours.Log
			theirs.StreamAll()
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs, state := world.SetupSource(t), world.SetupSource(t), world.StateElsewhere(t)
			ours.WantCount("applied of an empty log", ours.Consume(ours.Consumer("sum", at(state))), 0)
			ours.Commit("1", "2")
			theirs.Commit("10", "20", "30")
			ours.StreamAll()
			theirs.StreamAll()
			ours.WantCount("applied", ours.Consume(ours.Consumer("sum", at(state))), 2)

			c := f(ours, theirs, state)
			var foreign *unilog.ForeignLogError
			if n, err := c.RunOnce(ours.Ctx); !errors.As(err, &foreign) || foreign.Consumer != "sum" {
				t.Fatalf("it applied %d and says %v, want a ForeignLogError", n, err)
			}
			if err := ours.EndOf(ours.Ctx, c.Run); !errors.As(err, &foreign) {
				t.Errorf("it ends with %v, want a ForeignLogError", err)
			}
			state.WantTotal("sum", "3")

			// The way out that the error names, for a log that replaces the other.
			state.Exec(`UPDATE unilog.checkpoints SET log_id = NULL WHERE name = 'sum'`)
			theirs.WantCount("applied when it was told to", theirs.Consume(c), 1)
		})
	}
}

// TestArchiveOfAnotherDatabase gives a new consumer a log and an archive that do
// not belong together, whichever of them is ahead.
func TestArchiveOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	for name, amounts := range map[string][]string{
		"as long":    {"10"},
		"longer log": {"10", "20"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, other := world.SetupSource(t), world.SetupSource(t)
			w.Commit("1")
			w.StreamAll()
			other.Commit(amounts...)
			other.StreamAll()
			var foreign *unilog.ForeignLogError
			c := w.Consumer("sum", func(cfg *consumer.Config) { cfg.Log = other.Log })
			if _, err := c.RunOnce(w.Ctx); !errors.As(err, &foreign) {
				t.Errorf("it says %v, want a ForeignLogError", err)
			}
			w.WantTotal("sum", "0")
		})
	}
}

// TestLogMoves gives a consumer its database's log in another place.
func TestLogMoves(t *testing.T) {
	t.Parallel()
	w, state := world.SetupOnRedis(t), world.StateElsewhere(t)
	w.Commit("1", "2")
	w.StreamAll()
	w.WantCount("applied", w.Consume(w.Consumer("sum", at(state))), 2)
	log, err := redislog.Open(w.Ctx, testenv.PatientRedis(testenv.SharedRedis(t)), testenv.StreamName(t))
	w.Must(err)
	t.Cleanup(log.Close)
	w.Log = log
	w.WantCount("applied of the new log while it is empty", w.Consume(w.Consumer("sum", at(state))), 0)
	w.Commit("3")
	w.StreamAll()
	w.WantCount("applied of the new log", w.Consume(w.Consumer("sum", at(state))), 1)
	state.WantTotal("sum", "6")
}
