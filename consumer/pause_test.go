package consumer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

// TestPausedConsumerAppliesNothing pauses one in the middle of a batch.
func TestPausedConsumerAppliesNothing(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 2)
	runs := p.Run()
	p.WriteAll()
	p.AwaitApplied("sum")
	p.Must(in.Pause(p.Ctx, p.DB, "sum", "a look at it"))
	if err := in.Pause(p.Ctx, p.DB, "sum", ""); !errors.As(err, new(*consumer.PauseError)) {
		t.Errorf("paused again: %v", err)
	}
	p.WriteAll()
	renewals(p, 4)
	p.WantTotal("sum", "2")
	p.WantReady(runs.Consumer.Ready, "")
	runs.AwaitReads(0, 1)

	// Nor does it when it is started anew, in a partition that has come meanwhile, or by a
	// process of before.
	runs.Stop()
	p.Grow(3)
	p.Write(2, "1")
	another := p.Run()
	another.AwaitReads(0, 1, 2)
	p.AwaitReady(another.Consumer.Ready)
	renewals(p, 2)
	p.WantTotal("sum", "2")
	one := p.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = p.Add("sum") })
	if n, err := one.RunOnce(p.Ctx); n != 0 || !errors.As(err, new(*unilog.PausedError)) {
		t.Errorf("RunOnce applies %d, and says %v", n, err)
	}
	p.Must(in.Resume(p.Ctx, p.DB, "sum", ""))
	if err := in.Resume(p.Ctx, p.DB, "sum", ""); !errors.As(err, new(*consumer.PauseError)) {
		t.Errorf("resumed again: %v", err)
	}
	p.AwaitApplied("sum")
	p.WantTotal("sum", "5")
}

// TestPauseWaitsForTheBatchInHand sees that nothing is applied after Pause has returned.
func TestPauseWaitsForTheBatchInHand(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(8)
	began, goOn := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(began); <-goOn })
	add := consumer.Each(w.Add("sum"))
	w.Consumes(w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.BatchRecords = 1
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			once()
			return add(ctx, tx, entries)
		}
	}))
	world.Receive(w, "the handler to begin", began)
	paused := make(chan string, 1)
	go func() {
		w.Must(in.Pause(w.Ctx, w.DB, "sum", ""))
		paused <- w.Total("sum")
	}()
	w.AwaitTrue("the pause to wait", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%')`)
	close(goOn)
	total := world.Receive(w, "the pause", paused)
	one := w.Consumer("sum")
	if _, err := one.RunOnce(w.Ctx); !errors.As(err, new(*unilog.PausedError)) {
		t.Errorf("it says %v", err)
	}
	w.WantTotal("sum", total)
	w.Must(in.Resume(w.Ctx, w.DB, "sum", ""))
	w.AwaitTotal("sum", "8")
}

// TestPauseStopsWhoHasReadOn pauses a consumer between its reading and its applying, when it
// has seen that it is not paused.
func TestPauseStopsWhoHasReadOn(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.BatchRecords = 1
		cfg.Log = &pausing{cfg.Log, sync.OnceFunc(func() { w.Must(in.Pause(w.Ctx, w.DB, "sum", "")) })}
	})
	if n, err := c.RunOnce(w.Ctx); n != 0 || err != nil && !errors.As(err, new(*unilog.PausedError)) {
		t.Errorf("it has applied %d, and says %v", n, err)
	}
	w.WantTotal("sum", "0")
	w.Must(in.Resume(w.Ctx, w.DB, "sum", ""))
	w.Consume(c)
	w.WantTotal("sum", "3")
}

// pausing is a log that calls a function before it gives what was read.
type pausing struct {
	unilog.Log
	pause func()
}

func (p *pausing) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	entries, err := p.Log.Read(ctx, partition, after, limit, wait)
	p.pause()
	return entries, err
}
