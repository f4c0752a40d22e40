package migration_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
)

// heldCommit is a pool whose transactions wait before they commit.
type heldCommit struct {
	*pgxpool.Pool
	reached, release chan struct{}
}

type heldTx struct {
	pgx.Tx
	of heldCommit
}

func (h heldCommit) BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error) {
	tx, err := h.Pool.BeginTx(ctx, options)
	return heldTx{tx, h}, err
}

func (h heldTx) Commit(ctx context.Context) error {
	close(h.of.reached)
	<-h.of.release
	return h.Tx.Commit(ctx)
}

// TestRepartitionsTakeTurns begins one while another one is at work.
func TestRepartitionsTakeTurns(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(1)
	slow := heldCommit{w.DB, make(chan struct{}), make(chan struct{})}
	var first, second errgroup.Group
	first.Go(func() error {
		_, err := migration.Repartition(w.Ctx, slow, 4)
		return err
	})
	await.Receive(t, "the first one to come to its end", slow.reached)
	second.Go(func() error {
		before, err := migration.Repartition(w.Ctx, w.DB, 6)
		for postgres.IsLockTimeout(err) { // the machine is slow
			before, err = migration.Repartition(w.Ctx, w.DB, 6)
		}
		if before != 4 {
			t.Errorf("there were %d partitions, want 4", before)
		}
		return err
	})
	w.AwaitTrue("the second one to wait", `SELECT EXISTS (SELECT FROM pg_locks AS l JOIN pg_database AS d ON l.database = d.oid
		WHERE datname = current_database() AND locktype = 'advisory' AND NOT granted)`)
	close(slow.release)
	w.Ended("the first", &first)
	w.Ended("the second", &second)
	var barrier struct{ Offsets []int64 }
	w.Must(json.Unmarshal(world.Query[[]byte](w, `SELECT data FROM unilog.records WHERE partition = 5`), &barrier))
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
	w.WantCount("records", world.Query[int](w, `SELECT count(*)::int FROM unilog.records`), 1)
}

// BenchmarkRepartition makes the most partitions there can be of one that has records,
// which nobody can number meanwhile.
func BenchmarkRepartition(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		w := world.Setup(b)
		w.Publish(1)
		b.StartTimer()
		w.Repartition(migration.MaxPartitions, 1)
		b.StopTimer()
		w.Drain(w.Streamer())
		b.StartTimer()
	}
}
