package endtoend_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestWriterWakesTheLeaderOverTLS also sees that a connection lives on whose wait
// for a writer was over before one came.
func TestWriterWakesTheLeaderOverTLS(t *testing.T) {
	t.Parallel()
	_, _, url := testenv.TLSPostgres(t)
	db, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db) // after the world's checks
	w := world.SetupOnRedis(t)
	w.Must(world.MigrateWorld(w.Ctx, db))
	w.DB = db

	conn, err := db.Acquire(w.Ctx)
	w.Must(err)
	defer conn.Release()
	_, err = conn.Exec(w.Ctx, `LISTEN news`)
	w.Must(err)
	for range 3 {
		ctx, cancel := context.WithTimeout(w.Ctx, 10*time.Millisecond)
		if _, err := conn.Conn().WaitForNotification(ctx); !pgconn.Timeout(err) {
			w.Errorf("without news, the wait ends with %v", err)
		}
		cancel()
		w.Exec(`NOTIFY news`)
		_, err = conn.Conn().WaitForNotification(await.Context(t, "the news"))
		w.Must(err)
	}

	w.Runs()
	w.AwaitSleep()
	for i := range 5 {
		w.Commit("5")
		w.Published(i + 1)
	}
}
