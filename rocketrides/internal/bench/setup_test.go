package bench

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

func TestMain(m *testing.M) {
	loop.CallTimeout = 15 * time.Second // as in package world: no measure lacks a commit that was late
	testenv.Main(m)
}

// newDatabase gives a test a database of its own, with all tables.
func newDatabase(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return testenv.Database(t, "bench", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer, rides.MigrationSet)
	})
}

// countRides returns how many rides there are.
func countRides(t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM rides`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}
