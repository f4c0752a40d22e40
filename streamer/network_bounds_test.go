package streamer_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestEveryCallIsBounded stands in for waiting: a call that has a deadline
// returns from a black hole, as the other tests show.
func TestEveryCallIsBounded(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	calls := &boundedCalls{Log: w.Log}
	config := w.DB.Config().Copy()
	config.ConnConfig.Tracer = calls
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	t.Cleanup(db.Close)
	ctx, stop := context.WithCancel(w.Ctx)
	var processes errgroup.Group
	processes.Go(func() error {
		return w.Streamer(func(cfg *streamer.Config) {
			*cfg = streamer.WithChunkRecords(*cfg, 30)
			cfg.DB, cfg.Log, cfg.BatchRecords, cfg.KeepRecords = db, calls, 10, 10
		}).Run(ctx)
	})
	processes.Go(func() error {
		return w.Consumer("sum", func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive, cfg.Log = db, db, calls
			cfg.ParkRejected = true
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
				if slices.ContainsFunc(entries, func(e unilog.Entry) bool { return e.Offset == 50 }) {
					return errors.New("rejected")
				}
				_, err := tx.Exec(ctx, `SELECT`)
				return err
			}
		}).Run(ctx)
	})
	t.Cleanup(func() { // before the streamer resigns, also when the test has failed
		stop()
		_ = processes.Wait()
	})
	for range 10 {
		w.CommitMany(10)
	}
	world.AwaitQuery(w, "the checkpoint", 100, `SELECT coalesce((SELECT "offset" FROM checkpoints), 0)`)
	w.Wipe() // to be rebuilt
	w.Await("the log to be rebuilt", func() string {
		if w.LogLength() == 0 {
			return "it is empty"
		}
		return ""
	})
	stop()
	w.Ended("the processes", &processes)
	if calls.number == 0 || len(calls.unbounded) > 0 {
		t.Errorf("of %d calls these have no deadline: %q", calls.number, calls.unbounded)
	}
	w.Exec(`INSERT INTO sums VALUES ('sum', 99)`) // and one is parked
}

// boundedCalls notes which calls have no deadline.
type boundedCalls struct {
	unilog.Log
	mu        sync.Mutex
	number    int
	unbounded []string
}

func (b *boundedCalls) note(ctx context.Context, call string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.number++
	if _, ok := ctx.Deadline(); !ok && !slices.Contains(b.unbounded, call) {
		b.unbounded = append(b.unbounded, call)
	}
}

func (b *boundedCalls) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	b.note(ctx, q.SQL)
	return ctx
}

func (b *boundedCalls) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (b *boundedCalls) Head(ctx context.Context, partition int) (unilog.Head, error) {
	b.note(ctx, "Head")
	return b.Log.Head(ctx, partition)
}

func (b *boundedCalls) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	b.note(ctx, "Claim")
	return b.Log.Claim(ctx, term)
}

func (b *boundedCalls) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	b.note(ctx, "Append")
	return b.Log.Append(ctx, term, entries)
}

func (b *boundedCalls) Reset(ctx context.Context, term unilog.Term, head int64) error {
	b.note(ctx, "Reset")
	return b.Log.Reset(ctx, term, head)
}

func (b *boundedCalls) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	b.note(ctx, "Read")
	return b.Log.Read(ctx, partition, after, limit, wait)
}

func (b *boundedCalls) Trim(ctx context.Context, partition int, upTo int64) error {
	b.note(ctx, "Trim")
	return b.Log.Trim(ctx, partition, upTo)
}
