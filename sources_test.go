package unilog_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// at gives a consumer a state elsewhere, and no archive.
func at(w *world) func(*unilog.ConsumerConfig) {
	return func(cfg *unilog.ConsumerConfig) { cfg.DB, cfg.Archive = w.db, nil }
}

// sqlEachSourceOnce is what a consumer of several sources adds to its tables.
const sqlEachSourceOnce = `CREATE UNIQUE INDEX each_source_once ON checkpoints (log_id, partition) WHERE name LIKE 'totals/%'`

// TestSeveralSources makes one state of the logs of two databases, by a consumer
// for each, while all of them fail now and then.
func TestSeveralSources(t *testing.T) {
	t.Parallel()
	const records = 60
	sources := map[string]*world{"totals/eu": setupSource(t), "totals/us": setupSource(t)}
	state := stateElsewhere(t)
	state.exec(sqlEachSourceOnce)

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var running errgroup.Group
	failures := map[string]*atomic.Int32{}
	for name, w := range sources {
		failed := new(atomic.Int32)
		failures[name] = failed
		s := w.streamer(func(cfg *unilog.StreamerConfig) {
			cfg.BatchRecords, cfg.Hooks.AfterAppend = 5, unilog.SimulateFailures(0.3, 1)
		})
		fail := unilog.SimulateFailures(0.5, 2)
		c := w.consumer(name, at(state), func(cfg *unilog.ConsumerConfig) {
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
		sources["totals/eu"].commit("0.1")
		sources["totals/us"].commit("1000.01")
	}
	for name := range sources {
		await.Equal(t, "the checkpoint of "+name, records, func() int {
			return query[int](state, `SELECT coalesce(max("offset"), 0) FROM checkpoints WHERE name = $1`, name)
		})
	}
	stop()
	state.must(running.Wait())
	for name, w := range sources {
		state.wantTotal(name, query[string](w, `SELECT sum(amount)::text FROM amounts`))
		if failures[name].Load() == 0 {
			t.Errorf("%s never failed", name)
		}
	}
	if sum := query[string](state, `SELECT sum(total)::text FROM sums`); sum != "60006.60" {
		t.Errorf("the sum over the sources is %s, want 60006.60", sum)
	}
}

// TestSourceReadTwice points both consumers of a state at one log.
func TestSourceReadTwice(t *testing.T) {
	t.Parallel()
	w, state := setup(t), stateElsewhere(t)
	state.exec(sqlEachSourceOnce)
	w.commit("1", "2")
	w.streamAll()
	w.wantCount("applied", w.consume(w.consumer("totals/eu", at(state))), 2)
	n, err := w.consumer("totals/us", at(state)).RunOnce(w.ctx)
	if n != 0 || err == nil || !strings.Contains(err.Error(), "each_source_once") {
		t.Errorf("the second consumer of the log applied %d and says %v, want that each_source_once refuses it", n, err)
	}
	state.wantTotal("totals/us", "0")
	w.wantCount("applied by a consumer of another name", w.consume(w.consumer("other", at(state))), 2)
}

// TestLogOfAnotherDatabase gives a consumer the log of another database than the
// one whose records it has applied, with just the offsets that it waits for.
func TestLogOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(ours, theirs, state *world) *unilog.Consumer{
		"by its settings": func(_, theirs, state *world) *unilog.Consumer {
			return theirs.consumer("sum", at(state))
		},
		"with its archive": func(_, theirs, state *world) *unilog.Consumer {
			return theirs.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.DB = state.db })
		},
		"while it runs": func(ours, theirs, state *world) *unilog.Consumer {
			c := ours.consumer("sum", at(state))
			ours.wantCount("applied with nothing new", ours.consume(c), 0)
			ours.wipe()
			theirs.log = ours.log
			theirs.streamAll()
			return c
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs, state := setupSource(t), setupSource(t), stateElsewhere(t)
			ours.wantCount("applied of an empty log", ours.consume(ours.consumer("sum", at(state))), 0)
			ours.commit("1", "2")
			theirs.commit("10", "20", "30")
			ours.streamAll()
			theirs.streamAll()
			ours.wantCount("applied", ours.consume(ours.consumer("sum", at(state))), 2)

			c := f(ours, theirs, state)
			var foreign *unilog.ForeignLogError
			if n, err := c.RunOnce(ours.ctx); !errors.As(err, &foreign) || foreign.Consumer != "sum" {
				t.Fatalf("it applied %d and says %v, want a ForeignLogError", n, err)
			}
			if err := ours.endOf(ours.ctx, c.Run); !errors.As(err, &foreign) {
				t.Errorf("it ends with %v, want a ForeignLogError", err)
			}
			state.wantTotal("sum", "3")

			// The way out that the error names, for a log that replaces the other.
			state.exec(`UPDATE checkpoints SET log_id = NULL WHERE name = 'sum'`)
			theirs.wantCount("applied when it was told to", theirs.consume(c), 1)
		})
	}
}

// TestArchiveOfAnotherDatabase gives a new consumer a log and an archive that do
// not belong together.
func TestArchiveOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w, other := setupSource(t), setupSource(t)
	for _, source := range []*world{w, other} {
		source.commit("1")
		source.streamAll()
	}
	var foreign *unilog.ForeignLogError
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.Log = other.log })
	if _, err := c.RunOnce(w.ctx); !errors.As(err, &foreign) {
		t.Errorf("it says %v, want a ForeignLogError", err)
	}
	w.wantTotal("sum", "0")
}

// TestLogMoves gives a consumer its database's log in another place.
func TestLogMoves(t *testing.T) {
	t.Parallel()
	w, state := setup(t), stateElsewhere(t)
	w.commit("1", "2")
	w.streamAll()
	w.wantCount("applied", w.consume(w.consumer("sum", at(state))), 2)
	var err error
	w.log, err = redislog.Open(w.ctx, testenv.SharedRedis(t), testenv.StreamName(t))
	w.must(err)
	t.Cleanup(w.log.Close)
	w.wantCount("applied of the new log while it is empty", w.consume(w.consumer("sum", at(state))), 0)
	w.commit("3")
	w.streamAll()
	w.wantCount("applied of the new log", w.consume(w.consumer("sum", at(state))), 1)
	state.wantTotal("sum", "6")
}
