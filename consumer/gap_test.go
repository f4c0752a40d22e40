package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestConsumerAheadOfItsSource(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(3)
	w.Drain(w.Streamer())
	c := w.Consumer("sum")
	w.Consume(c)
	w.Exec(`UPDATE checkpoints SET "offset" = 10`)
	var ahead *unilog.CheckpointAheadError
	if err := w.EndOf(w.Ctx, w.Consumer("sum").Run); !errors.As(err, &ahead) || ahead.Checkpoint != 10 || ahead.Database != 3 {
		t.Errorf("Run returned %v, want it to be at 10, ahead of 3", err)
	}
	w.Exec(`UPDATE checkpoints SET "offset" = 3`)
}

func TestConsumerGapThatNobodyCanFill(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(20)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")
	w.Exec(`DELETE FROM log_records WHERE "offset" <= 3`) // as if dropped long ago
	var gap *unilog.GapError
	err := w.EndOf(w.Ctx, w.Consumer("late", func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(new(int)) }).Run)
	if !errors.As(err, &gap) || gap.From != 1 || gap.To != 3 || !gap.Archive {
		t.Errorf("Run returned %v, want a gap from 1 to 3", err)
	}
	w.Exec(`DELETE FROM checkpoints`) // it never agrees, and is not meant to
}

// TestConsumerThatOverslept wakes an instance up when another one has applied
// what it was about to, and all of that is gone.
func TestConsumerThatOverslept(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	frozen := w.Consumer("sum")
	w.Consume(frozen)
	w.CommitMany(20)
	w.Drain(s)
	w.Consume(w.Consumer("sum"))
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")
	w.Exec(`DELETE FROM log_records WHERE "offset" <= 15`) // as if dropped
	w.WantCount("applied by the one that overslept", w.Repeat(frozen.RunQuiet), 0)
	w.Commit("1")
	w.Drain(s)
	w.WantCount("applied by it then", w.Repeat(frozen.RunQuiet), 1)
	w.WantTotal("sum", "21")
}

// TestCommitsThatACrashUndoes kills Postgres when a consumer, which then has
// nothing to do, has committed and the log is trimmed, until such a commit was
// not on disk.
func TestCommitsThatACrashUndoes(t *testing.T) {
	t.Parallel()
	w, server := world.SetupOwn(t)
	w.Exec(`ALTER SYSTEM SET wal_writer_delay = '10s'`) // what is not synced stays in memory
	w.Exec(`SELECT pg_reload_conf()`)
	var last, undone atomic.Int64
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
			if entries[0].Offset <= last.Load() {
				undone.Add(1)
			}
			last.Store(entries[len(entries)-1].Offset)
		}
	})
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var running errgroup.Group
	running.Go(func() error { return c.Run(ctx) })
	records := 0
	for began := time.Now(); undone.Load() == 0; {
		if time.Since(began) > await.Patience {
			t.Fatalf("no crash has undone a commit of %d records", records)
		}
		w.Commit("1", "2")
		w.StreamAll()
		records += 2
		await.Equal(t, "the last offset applied", int64(records), last.Load)
		w.Command("XTRIM", w.Stream, "MAXLEN", "0") // as the streamer may, by the checkpoint
		w.Must(server.Kill())
		server = testenv.Restart(t, server)
		w.DB.Reset()
		w.CheckAudit()
		w.StreamAll() // that the log has it may not have been on disk either
		await.Equal(t, "the checkpoint", int64(records), func() int64 { return checkpoint(w, "sum") })
	}
	stop()
	w.Must(running.Wait())
	w.WantCount("applied", world.Query[int](w, `SELECT count(*) FROM applied`), records)
	w.CheckAudit()
}

// TestGapIsFilledInSmallerBatches lets a handler run out of time with what the
// archive gives, as with what the log does.
func TestGapIsFilledInSmallerBatches(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(9)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MINID", "9")
	var sizes []int
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		*cfg = consumer.WithSilence(*cfg, await.Patience) // it is the handler's time that is over
		cfg.HandlerTimeout = 50 * time.Millisecond
		cfg.Handler = func(ctx context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			sizes = append(sizes, len(entries))
			<-ctx.Done()
			return ctx.Err()
		}
	})
	for range 4 {
		if _, err := c.RunOnce(w.Ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it says %v, want that the handler ran out of time", err)
		}
	}
	if got := fmt.Sprint(sizes); got != "[8 4 2 1]" {
		t.Errorf("the batches have %s records, want fewer each time", got)
	}
}
