package unilog_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

// TestSlowConsumerDelaysNobody keeps one consumer in its transaction while the
// others get everything done.
func TestSlowConsumerDelaysNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer(func(cfg *unilog.StreamerConfig) { cfg.KeepRecords = 10 })
	w.commitMany(5)
	w.drain(s)
	busy, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	slow := w.consumer("slow", func(cfg *unilog.ConsumerConfig) {
		cfg.HandlerTimeout = await.Patience // the others take what time they need
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if !happened(busy) {
				close(busy)
				<-goOn
			}
			return add(ctx, tx, entries)
		}
	})
	var slowly errgroup.Group
	slowly.Go(func() error { _, err := slow.RunOnce(w.ctx); return err })
	await.Receive(t, "the slow one to be busy", busy)
	w.wantCount("applied by a new consumer", w.consume(w.consumer("quick")), 5)
	for range 3 {
		w.commitMany(100)
		w.wantCount("published", w.drain(s), 100)
		w.must(s.Upkeep(w.ctx))
		w.wantCount("applied by the others", w.consume(w.consumer("quick")), 100)
	}
	release()
	w.must(slowly.Wait())
	w.wantTotal("slow", "5")
	w.wantCount("applied by the slow one afterwards", w.consume(slow), 300)
}

// TestFarBehindTheLog takes the ways out of a gap that the errors name: to give
// a consumer the archive, and to start it at the head when that lacks the
// records, too.
func TestFarBehindTheLog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(*cfg, 100)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 50, 10, time.Nanosecond
	})
	alone := func(cfg *unilog.ConsumerConfig) { cfg.Archive = nil }
	w.commitMany(20)
	w.drain(s)
	w.consume(w.consumer("behind", alone))
	w.commitMany(500)
	w.drain(s)
	w.command("XTRIM", w.stream, "MAXLEN", "10")
	var gap *unilog.GapError
	if _, err := w.consumer("behind", alone).RunOnce(w.ctx); !errors.As(err, &gap) || gap.From != 21 || gap.To != 510 || gap.Archive {
		t.Errorf("without the archive it says %v, want a gap from 21 to 510", err)
	}
	w.wantCount("applied with the archive", w.consume(w.consumer("behind")), 500)
	w.wantTotal("behind", "520")

	w.must(s.Upkeep(w.ctx)) // the streamer itself drops what all have applied
	gap = nil
	if _, err := w.consumer("late").RunOnce(w.ctx); !errors.As(err, &gap) || gap.From != 1 || gap.To != 500 || !gap.Archive {
		t.Errorf("when the archive lacks them, too, it says %v, want a gap from 1 to 500", err)
	}
	w.exec(`DELETE FROM checkpoints WHERE name = 'late'`)
	created, err := audit.Bootstrap(w.ctx, w.db, "late")
	w.must(err)
	if !created {
		t.Error("it was not bootstrapped")
	}
	w.commit("1000")
	w.drain(s)
	w.wantCount("applied when it was bootstrapped", w.consume(w.consumer("late")), 1)
	w.wantTotal("late", "1520")
	w.consume(w.consumer("behind"))
}
