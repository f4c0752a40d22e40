package unilog_test

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

func TestReconcileRepairsAState(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.consumer("sum")
	w.commit("1", "2.5")
	w.drain(w.streamer())
	w.consume(c)
	w.commit("4")
	w.exec(`UPDATE sums SET total = 1000`)
	was, err := audit.Reconcile(w.ctx, w.db, "sum")
	w.must(err)
	if was.Agrees || was.Total != "1000" || was.Difference != "-996.5" {
		t.Errorf("it was %+v", was)
	}
	w.wantTotal("sum", "3.5")
	if was, err := audit.Reconcile(w.ctx, w.db, "sum"); err != nil || !was.Agrees {
		t.Errorf("a second time it was %+v, %v", was, err)
	}
	if _, err := audit.Reconcile(w.ctx, w.db, "nobody"); !errors.Is(err, unilog.ErrUnknownConsumer) {
		t.Errorf("of an unknown consumer it says %v", err)
	}
}

func TestBootstrapSkipsTheHistory(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.commit("1", "2.5")
	w.drain(s)
	w.exec(`DELETE FROM log_records`) // all of it was dropped long ago
	w.commit("4")
	for _, want := range []bool{true, false} { // again, it changes nothing
		if created, err := audit.Bootstrap(w.ctx, w.db, "late"); err != nil || created != want {
			t.Fatalf("bootstrap: %v, %v; want %v", created, err, want)
		}
		w.wantTotal("late", "3.5")
	}
	w.drain(s)
	w.wantCount("applied by the new consumer", w.consume(w.consumer("late")), 1)
	w.wantTotal("late", "7.5")
}

// TestReconcileAndBootstrapUnderLoad damages states, repairs them and starts
// consumers while writers, a streamer and consumers run.
func TestReconcileAndBootstrapUnderLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var processes, writers errgroup.Group
	run := func(name string) {
		c := w.consumer(name, func(cfg *unilog.ConsumerConfig) { cfg.BatchRecords = 3 })
		processes.Go(func() error { return c.Run(ctx) })
	}
	s := w.streamer()
	processes.Go(func() error { return s.Run(ctx) })
	run("first")
	w.awaitThat("the first consumer to register", func() bool {
		return query[bool](w, `SELECT EXISTS (SELECT FROM checkpoints)`)
	})
	for range 3 {
		writers.Go(func() error {
			for range 40 {
				w.commit("1", "2")
			}
			return nil
		})
	}
	for i := range 10 {
		w.exec(`INSERT INTO sums AS s VALUES ('first', 5) ON CONFLICT (name) DO UPDATE SET total = s.total + 5`)
		was, err := audit.Reconcile(w.ctx, w.db, "first")
		w.must(err)
		if was.Difference != "-5" {
			t.Errorf("the damage was %s, want -5", was.Difference)
		}
		name := string(rune('a' + i))
		_, err = audit.Bootstrap(w.ctx, w.db, name)
		w.must(err)
		run(name)
		w.checkAudit()
	}
	w.must(writers.Wait())
	w.awaitThat("eleven consumers to have applied all", func() bool {
		return query[bool](w, `SELECT count(*) = 11 AND bool_and(total = 360) FROM sums`)
	})
	stop()
	w.must(processes.Wait())
}
