package migration_test

import (
	"encoding/json"
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"

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

func TestRepartitionChecksItsNumber(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	for _, n := range []int{0, -1, migration.MaxPartitions + 1} {
		if _, err := migration.Repartition(w.Ctx, w.DB, n); err == nil {
			t.Errorf("%d partitions: no error", n)
		}
	}
	w.Commit("1")
	w.Drain(w.Streamer())
	w.Repartition(1, 1) // nothing to do
	w.WantCount("records", world.Query[int](w, `SELECT count(*)::int FROM log_records`), 1)
}
