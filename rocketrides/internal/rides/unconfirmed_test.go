package rides

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

// TestNoSynchronousStandby takes the synchronous standby away. A booking whose wait for it
// was cancelled can be seen by everyone, and is lost if the standby is promoted: it is not
// confirmed to the client, also not when it is sent again, until the standby has it.
func TestNoSynchronousStandby(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, "-c", "wal_level=replica", "-c", "max_wal_senders=5")
	open := func(change func(*pgxpool.Config)) *pgxpool.Pool {
		config, err := pgxpool.ParseConfig(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		change(config)
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		if err != nil {
			t.Fatal(err)
		}
		testenv.ClosePool(t, pool)
		return pool
	}
	local := open(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["synchronous_commit"] = "local" })
	exec := func(sql string) {
		t.Helper()
		if _, err := local.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	if err := migration.Up(t.Context(), local, migration.Log, migration.Consumer, MigrationSet); err != nil {
		t.Fatal(err)
	}
	testenv.AwaitStandbys(t, server, "away")
	api, _ := newAPI(t, open(func(c *pgxpool.Config) { postgres.NoteUnconfirmed(c.ConnConfig) }))
	const message = "The database's standby has not confirmed the ride: the ride may or may not last."
	// cancelled books, and cancels the wait.
	cancelled := func(book func() *httptest.ResponseRecorder) *httptest.ResponseRecorder {
		answer := make(chan *httptest.ResponseRecorder, 1)
		go func() { answer <- book() }()
		await.True(t, "a commit to wait for the standby", func() (waits bool) {
			err := local.QueryRow(t.Context(), `
				SELECT coalesce(bool_or(pg_cancel_backend(pid)), false) FROM pg_stat_activity WHERE wait_event = 'SyncRep'`).Scan(&waits)
			if err != nil {
				t.Fatal(err)
			}
			return waits
		})
		return await.Receive(t, "an answer", answer)
	}
	wantError(t, cancelled(func() *httptest.ResponseRecorder { return postRide(api) }), http.StatusServiceUnavailable, message)
	keyed := func() *httptest.ResponseRecorder { return postOnce(api, "1", "k") }
	for range 2 { // the second one finds the first one's ride
		wantRetryLater(t, cancelled(keyed), message)
	}
	wantRides(t, local, 2)
	exec(`ALTER SYSTEM RESET synchronous_standby_names`)
	exec(`SELECT pg_reload_conf()`)
	if w := keyed(); w.Code != http.StatusCreated {
		t.Errorf("sent again with the standby back, it is answered %d %s", w.Code, w.Body)
	}
	wantRides(t, local, 2)
}
