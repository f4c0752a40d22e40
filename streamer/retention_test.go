package streamer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestSlowConsumerDelaysNobody keeps one consumer in its transaction while the
// others get everything done.
func TestSlowConsumerDelaysNobody(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.KeepRecords = 10 })
	w.CommitMany(5)
	w.Drain(s)
	busy, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	slow := w.Consumer("slow", func(cfg *consumer.Config) {
		cfg.HandlerTimeout = await.Patience // the others take what time they need
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if !world.Happened(busy) {
				close(busy)
				<-goOn
			}
			return add(ctx, tx, entries)
		}
	})
	var slowly errgroup.Group
	slowly.Go(func() error { _, err := slow.RunOnce(w.Ctx); return err })
	await.Receive(t, "the slow one to be busy", busy)
	w.WantCount("applied by a new consumer", w.Consume(w.Consumer("quick")), 5)
	for range 3 {
		w.CommitMany(100)
		w.WantCount("published", w.Drain(s), 100)
		w.Must(s.Upkeep(w.Ctx))
		w.WantCount("applied by the others", w.Consume(w.Consumer("quick")), 100)
	}
	release()
	w.Must(slowly.Wait())
	w.WantTotal("slow", "5")
	w.WantCount("applied by the slow one afterwards", w.Consume(slow), 300)
}

// TestFarBehindTheLog takes the ways out of a gap that the errors name: to give
// a consumer the archive, and to start it at the head when that lacks the
// records, too.
func TestFarBehindTheLog(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithChunkRecords(*cfg, 100)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 50, 10, time.Nanosecond
	})
	alone := func(cfg *consumer.Config) { cfg.Archive = nil }
	w.CommitMany(20)
	w.Drain(s)
	w.Consume(w.Consumer("behind", alone))
	w.CommitMany(500)
	w.Drain(s)
	w.Command("XTRIM", w.Stream, "MAXLEN", "10")
	var gap *unilog.GapError
	if _, err := w.Consumer("behind", alone).RunOnce(w.Ctx); !errors.As(err, &gap) || gap.From != 21 || gap.To != 510 || gap.Archive {
		t.Errorf("without the archive it says %v, want a gap from 21 to 510", err)
	}
	w.WantCount("applied with the archive", w.Consume(w.Consumer("behind")), 500)
	w.WantTotal("behind", "520")

	w.Must(s.Upkeep(w.Ctx)) // the streamer itself drops what all have applied
	gap = nil
	if _, err := w.Consumer("late").RunOnce(w.Ctx); !errors.As(err, &gap) || gap.From != 1 || gap.To != 500 || !gap.Archive {
		t.Errorf("when the archive lacks them, too, it says %v, want a gap from 1 to 500", err)
	}
	w.Exec(`DELETE FROM checkpoints WHERE name = 'late'`)
	created, err := world.Audit.Bootstrap(w.Ctx, w.DB, "late")
	w.Must(err)
	if !created {
		t.Error("it was not bootstrapped")
	}
	w.Commit("1000")
	w.Drain(s)
	w.WantCount("applied when it was bootstrapped", w.Consume(w.Consumer("late")), 1)
	w.WantTotal("late", "1520")
	w.Consume(w.Consumer("behind"))
}
