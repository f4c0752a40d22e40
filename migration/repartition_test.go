package migration_test

import (
	"encoding/json"
	"errors"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
)

// TestRepartitionsTakeTurns begins one while another one is at work.
func TestRepartitionsTakeTurns(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(1)
	tx := w.Begin()
	_, err := migration.Repartition(w.Ctx, tx, 4)
	w.Must(err)
	var second errgroup.Group
	second.Go(func() error {
		before, err := migration.Repartition(w.Ctx, w.DB, 6)
		if before != 4 {
			t.Errorf("there were %d partitions, want 4", before)
		}
		return err
	})
	w.AwaitThat("the second one to wait", func() bool {
		return world.Query[bool](w, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%log_partitions%')`)
	})
	w.Must(tx.Commit(w.Ctx))
	w.Must(second.Wait())
	var barrier struct{ Offsets []int64 }
	w.Must(json.Unmarshal(world.Query[[]byte](w, `SELECT data FROM log_records WHERE partition = 5`), &barrier))
	if want := []int64{3, 2, 2, 2, 1, 1}; !slices.Equal(barrier.Offsets, want) {
		t.Errorf("the second barrier is at %v, want %v", barrier.Offsets, want)
	}
}

// TestDelivererOutlivesARepartition sees that what is registered for it in new
// partitions is a deliverer's.
func TestDelivererOutlivesARepartition(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(2)
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver)
	w.WantCount("delivered", w.Repeat(d.RunOnce), 2)
	w.Repartition(3, 1)
	w.WantCount("checkpoints", world.Query[int](w, `SELECT count(*) FROM checkpoints WHERE name = 'hook' AND outside`), 3)
	w.Publish(9)
	w.WantCount("delivered, with the barriers", w.Repeat(d.RunOnce), 12)
	w.WantCount("arrived", len(outside.Entries), 11)
}

// TestConsumerRefusesADeliverersName sees that it leaves a deliverer's checkpoint
// alone.
func TestConsumerRefusesADeliverersName(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(2)
	var outside world.Arrivals
	w.WantCount("delivered", w.Repeat(w.Deliverer(outside.Deliver).RunOnce), 2)
	w.Publish(2)
	c := w.Consumer("hook")
	if err := w.EndOf(w.Ctx, c.Run); !errors.Is(err, unilog.ErrDeliverersName) {
		t.Errorf("Run returned %v", err)
	}
	w.WantCount("delivered", w.Repeat(w.Deliverer(outside.Deliver).RunOnce), 2)
	w.WantTotal("hook", "0")
}
