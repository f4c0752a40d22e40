package unilog_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// TestRepartitionsTakeTurns begins one while another one is at work.
func TestRepartitionsTakeTurns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.publish(1)
	tx := w.begin()
	_, err := unilog.Repartition(w.ctx, tx, 4)
	w.must(err)
	var second errgroup.Group
	second.Go(func() error {
		before, err := unilog.Repartition(w.ctx, w.db, 6)
		if before != 4 {
			t.Errorf("there were %d partitions, want 4", before)
		}
		return err
	})
	w.awaitThat("the second one to wait", func() bool {
		return query[bool](w, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%log_partitions%')`)
	})
	w.must(tx.Commit(w.ctx))
	w.must(second.Wait())
	var barrier struct{ Offsets []int64 }
	w.must(json.Unmarshal(query[[]byte](w, `SELECT data FROM log_records WHERE partition = 5`), &barrier))
	if want := []int64{3, 2, 2, 2, 1, 1}; !slices.Equal(barrier.Offsets, want) {
		t.Errorf("the second barrier is at %v, want %v", barrier.Offsets, want)
	}
}

// TestDelivererOutlivesARepartition sees that what is registered for it in new
// partitions is a deliverer's.
func TestDelivererOutlivesARepartition(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.publish(2)
	var outside arrivals
	d := w.deliverer(outside.deliver)
	w.wantCount("delivered", w.repeat(d.RunOnce), 2)
	w.repartition(3, 1)
	w.wantCount("checkpoints", query[int](w, `SELECT count(*) FROM checkpoints WHERE name = 'hook' AND outside`), 3)
	w.publish(9)
	w.wantCount("delivered, with the barriers", w.repeat(d.RunOnce), 12)
	w.wantCount("arrived", len(outside.entries), 11)
}

// TestConsumerRefusesADeliverersName sees that it leaves a deliverer's checkpoint
// alone.
func TestConsumerRefusesADeliverersName(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.publish(2)
	var outside arrivals
	w.wantCount("delivered", w.repeat(w.deliverer(outside.deliver).RunOnce), 2)
	w.publish(2)
	c := w.consumer("hook")
	if err := w.endOf(w.ctx, c.Run); !errors.Is(err, unilog.ErrDeliverersName) {
		t.Errorf("Run returned %v", err)
	}
	w.wantCount("delivered", w.repeat(w.deliverer(outside.deliver).RunOnce), 2)
	w.wantTotal("hook", "0")
}
