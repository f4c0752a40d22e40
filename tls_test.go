package unilog_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
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
	t.Cleanup(db.Close) // after the world's checks
	w := setup(t)
	w.must(migrateWorld(w.ctx, db))
	w.db = db

	conn, err := db.Acquire(w.ctx)
	w.must(err)
	defer conn.Release()
	_, err = conn.Exec(w.ctx, `LISTEN news`)
	w.must(err)
	for range 3 {
		ctx, cancel := context.WithTimeout(w.ctx, 10*time.Millisecond)
		if _, err := conn.Conn().WaitForNotification(ctx); !pgconn.Timeout(err) {
			w.Errorf("without news, the wait ends with %v", err)
		}
		cancel()
		w.exec(`NOTIFY news`)
		_, err = conn.Conn().WaitForNotification(await.Context(t, "the news"))
		w.must(err)
	}

	w.runs()
	w.awaitSleep()
	for i := range 5 {
		w.commit("5")
		w.published(i + 1)
	}
}
