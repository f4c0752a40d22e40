package rides

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
)

// TestLostConnectionLeavesThePool loses the only connection that there may be
// without a word: its place must be free at once.
func TestLostConnectionLeavesThePool(t *testing.T) {
	t.Parallel()
	way, faulty := throughProxy(t, newDatabase(t))
	pool := Pool{reconnect(t, faulty, func(c *pgxpool.Config) { c.MaxConns = 1 })}

	var one int
	for name, lose := range map[string]func(){
		"in a booking": func() {
			api, _ := newAPI(t, pool)
			api.bookings.farewell = time.Millisecond // nothing more will be heard
			expire := overdue(api)
			lost := way.BlackholeAt(proxy.ToServer, proxy.Containing("13.5"), proxy.Both)
			answered := post(api, "13.5")
			await.Receive(t, "the booking to be sent", lost)
			expire()
			wantError(t, await.Receive(t, "an answer", answered), http.StatusServiceUnavailable, msgUnknown)
			api.bookings.wait()
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
