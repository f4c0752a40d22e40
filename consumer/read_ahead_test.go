package consumer_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

// watched is a log of which each read is told before it begins.
type watched struct {
	unilog.Log
	read func(ctx context.Context, after int64) error
}

func (l watched) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if err := l.read(ctx, after.Offset); err != nil {
		return nil, err
	}
	return l.Log.Read(ctx, partition, after, limit, wait)
}

// readingAhead makes a consumer of batches of ten, whose handler goes on when
// what follows the first batch is being read, if only by reading ahead.
func readingAhead(w *world.World, stop func(), read func(ctx context.Context) error, change ...func(*consumer.Config)) *consumer.Consumer {
	w.Helper()
	ahead := make(chan struct{})
	begun := sync.OnceFunc(func() { close(ahead) })
	last := world.Query[int64](w, `SELECT max("offset") FROM log_records`)
	return w.Consumer("sum", append(change, func(cfg *consumer.Config) {
		cfg.BatchRecords, cfg.HandlerTimeout = 10, await.Patience
		cfg.Log = watched{w.Log, func(ctx context.Context, after int64) error {
			if after == 10 && !world.Happened(ahead) {
				begun()
				return read(ctx)
			}
			return nil
		}}
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			select {
			case <-ahead:
				return add(ctx, tx, entries)
			case <-ctx.Done():
				w.Errorf("nothing was read ahead of offset %d", entries[0].Offset)
				stop()
				return ctx.Err()
			}
		}
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
			if entries[len(entries)-1].Offset == last {
				stop()
			}
		}
	})...)
}

func TestConsumerReadsAhead(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(35)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	w.Must(w.EndOf(ctx, readingAhead(w, stop, func(context.Context) error { return nil }).Run))
	w.WantTotal("sum", "35")
}

// TestReadAheadOfAFailure lets the batch fail of which the next one is read
// already: without the archive, what was read must not be taken for what follows.
func TestReadAheadOfAFailure(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(35)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	failures := 3
	c := readingAhead(w, stop, func(context.Context) error { return nil }, func(cfg *consumer.Config) {
		cfg.Archive = nil
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
			if failures > 0 {
				failures--
				return unilog.ErrSimulated
			}
			return nil
		}
	})
	w.Must(w.EndOf(ctx, c.Run))
	w.WantCount("failures left", failures, 0)
	w.WantTotal("sum", "35")
}

// TestReadAheadEndsWithTheConsumer stops a consumer whose log has fallen silent
// while it reads ahead.
func TestReadAheadEndsWithTheConsumer(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(35)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	ended := false
	c := readingAhead(w, stop, func(ctx context.Context) error {
		stop()
		<-ctx.Done()
		w.AwaitThat("the batch in hand to be applied", func() bool { return checkpoint(w, "sum") == 10 }) // nothing else is left to do
		ended = true
		return ctx.Err()
	})
	w.Must(w.EndOf(ctx, c.Run))
	if !ended {
		t.Error("it goes on reading")
	}
	w.WantTotal("sum", "10")
}
