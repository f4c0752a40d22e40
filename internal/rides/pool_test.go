package rides

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/proxy"
)

// TestLostConnectionLeavesThePool loses the only connection that there may be
// without a word: its place must be free at once.
func TestLostConnectionLeavesThePool(t *testing.T) {
	t.Parallel()
	way, err := proxy.For(newDatabase(t).Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	cfg, err := pgxpool.ParseConfig(way.URL())
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 1
	bare, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(bare.Close)
	pool := Pool{bare}
	overdue, cancel := context.WithCancel(t.Context())
	cancel()

	var one int
	for name, lose := range map[string]func(){
		"in a transaction": func() {
			tx, err := pool.Begin(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			way.Blackhole(proxy.Both)
			if err := tx.QueryRow(overdue, `SELECT 1`).Scan(&one); err == nil {
				t.Error("an answer")
			}
			_ = tx.Rollback(overdue)
		},
		"in a query": func() {
			ctx, cancel := context.WithCancel(t.Context())
			lost := way.BlackholeAt(proxy.ToServer, proxy.Containing("SELECT 1"), proxy.Both)
			go func() {
				<-lost
				cancel()
			}()
			if err := pool.QueryRow(ctx, `SELECT 1`).Scan(&one); err == nil {
				t.Error("an answer")
			}
		},
	} {
		if err := pool.QueryRow(t.Context(), `SELECT 2`).Scan(&one); err != nil {
			t.Fatal(err)
		}
		lose()
		if n := pool.Stat().TotalConns(); n != 0 {
			t.Errorf("lost %s: %d connections are in the pool, want 0", name, n)
		}
		way.Blackhole(0)
	}
	if err := pool.QueryRow(t.Context(), `SELECT 1`).Scan(&one); err != nil {
		t.Error(err)
	}
}
