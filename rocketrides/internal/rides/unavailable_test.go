package rides

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/httpserver"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
)

const (
	msgLost     = "The database is not available."
	msgBusy     = "The database is busy."
	msgSlow     = "The database took too long to answer."
	msgNoWrites = "The database takes no writes at the moment."
	msgUnknown  = "The database was lost while it saved the ride: the ride may or may not exist."
)

func TestUnavailable(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"53300": "The database has too many connections.",
		"53200": msgBusy, "40001": msgBusy, "40P01": msgBusy, "55P03": msgBusy,
		"25006": msgNoWrites, "53100": msgNoWrites,
		"57014": msgSlow, "57P01": msgLost, "57P02": msgLost, "57P03": msgLost, "08006": msgLost,
		"42P01": "", "23514": "", "XX000": "", "": "", "5": "",
	} {
		if got := unavailable(fmt.Errorf("wrapped: %w", &pgconn.PgError{Code: code})); got != want {
			t.Errorf("%s: %q; want %q", code, got, want)
		}
	}
	for err, want := range map[error]string{
		io.ErrUnexpectedEOF:                   msgLost,
		&net.OpError{Op: "read", Err: io.EOF}: msgLost,
		context.DeadlineExceeded:              msgSlow,
		errors.New("driver: bad column"):      "",
		pgx.ErrTxCommitRollback:               "",
	} {
		if got := unavailable(fmt.Errorf("wrapped: %w", err)); got != want {
			t.Errorf("%v: %q; want %q", err, got, want)
		}
	}
}

func wantRetryLater(t *testing.T, w *httptest.ResponseRecorder, message string) {
	t.Helper()
	wantError(t, w, http.StatusServiceUnavailable, message)
	if got := w.Header().Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q", got)
	}
}

func postRide(h http.Handler) *httptest.ResponseRecorder {
	return request(h, http.MethodPost, "/rides", formType, "distance=1")
}

func TestDatabaseDown(t *testing.T) {
	t.Parallel()
	nowhere := reconnect(t, newDatabase(t), func(c *pgxpool.Config) {
		c.ConnConfig.Host = t.TempDir()
		c.ConnConfig.Fallbacks = nil
	})
	api, log := newAPI(t, nowhere)
	wantRetryLater(t, postRide(api), msgLost)
	wantRetryLater(t, request(api, http.MethodGet, "/rides/1", "", ""), msgLost)
	for _, h := range []http.Handler{api, &httpserver.Health{Ready: api.Ready}} {
		wantReadyz(t, h, http.StatusServiceUnavailable, `{"ready":false,"reason":"The database is not available."}`)
	}
	if w := request(api, http.MethodGet, "/healthz", "", ""); w.Code != http.StatusOK {
		t.Errorf("/healthz answered %d", w.Code)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "failed to connect") {
		t.Errorf("logged:\n%s", log)
	}
}

func TestUnsafeIsNotReady(t *testing.T) {
	t.Parallel()
	var unsafe error
	api, _ := newAPI(t, newDatabase(t), func(cfg *APIConfig) { cfg.Safe = func() error { return unsafe } })
	wantReadyz(t, api, http.StatusOK, `{"ready":true}`)
	unsafe = errors.New("fsync is off")
	wantReadyz(t, api, http.StatusServiceUnavailable, `{"ready":false,"reason":"fsync is off"}`)
}

// TestDatabaseReadOnly makes a server read only, as the old primary of a switchover, under an
// open connection, and then lets new ones reach a server that takes writes.
func TestDatabaseReadOnly(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	behind := reconnect(t, pool, func(c *pgxpool.Config) {
		c.MaxConns = 1
		postgres.KeepToPrimary(c)
	})
	api, _ := newAPI(t, behind)
	readOnly := func(on string) {
		t.Helper()
		const sql = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = %L', current_database(), '`
		if _, err := pool.Exec(t.Context(), sql+on+`'); END $$`); err != nil {
			t.Fatal(err)
		}
	}
	readOnly("on")
	wantRetryLater(t, postRide(api), msgNoWrites)
	wantReadyz(t, api, http.StatusServiceUnavailable, `{"ready":false,"reason":"`+msgNoWrites+`"}`)
	wantRides(t, pool, 0)
	readOnly("off")
	wantReadyz(t, api, http.StatusOK, `{"ready":true}`)
	if w := postRide(api); w.Code != http.StatusCreated {
		t.Errorf("a booking is answered %d %s", w.Code, w.Body)
	}
}

func TestDatabaseTooManyConnections(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	role := pool.Config().ConnConfig.Database + "_crowded"
	if _, err := pool.Exec(t.Context(), "CREATE ROLE "+role+" LOGIN CONNECTION LIMIT 0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := pool.Exec(context.Background(), "DROP ROLE "+role); err != nil {
			t.Error(err)
		}
	})
	api, _ := newAPI(t, reconnect(t, pool, func(c *pgxpool.Config) { c.ConnConfig.User = role }))
	wantRetryLater(t, postRide(api), "The database has too many connections.")
}

// lockRides keeps every insert into rides waiting until release is called.
func lockRides(t *testing.T, pool *pgxpool.Pool) (release func()) {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release = func() { _ = tx.Rollback(context.Background()) }
	t.Cleanup(release)
	if _, err := tx.Exec(t.Context(), `LOCK TABLE rides IN ACCESS EXCLUSIVE MODE`); err != nil {
		t.Fatal(err)
	}
	return release
}

// waitingBackend returns the process that waits for the lock, once one does.
func waitingBackend(t *testing.T, pool *pgxpool.Pool) (pid int) {
	t.Helper()
	await.True(t, "a backend to wait for a lock", func() bool {
		err := pool.QueryRow(t.Context(), `
			SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&pid)
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		return err == nil
	})
	return pid
}

func TestDatabaseSlow(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, _ := newAPI(t, pool)
	expire := overdue(api)
	answered := post(api, "1")
	waitingBackend(t, pool)
	expire()
	wantRetryLater(t, await.Receive(t, "an answer", answered), msgSlow)

	impatient := reconnect(t, pool, func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["lock_timeout"] = "10" })
	api, _ = newAPI(t, impatient)
	wantRetryLater(t, postRide(api), msgBusy)
	release()
	wantRides(t, pool, 0)
}

func TestDatabaseConnectionEnds(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, _ := newAPI(t, pool)
	answered := post(api, "1")
	if _, err := pool.Exec(t.Context(), `SELECT pg_terminate_backend($1)`, waitingBackend(t, pool)); err != nil {
		t.Fatal(err)
	}
	wantRetryLater(t, await.Receive(t, "an answer", answered), msgLost)
	release()
	wantRides(t, pool, 0)
}

func TestDatabaseErrorIsNotLeaked(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if _, err := pool.Exec(t.Context(), `DROP TABLE rides`); err != nil {
		t.Fatal(err)
	}
	api, log := newAPI(t, pool)
	w := postRide(api)
	wantError(t, w, http.StatusInternalServerError, "Internal server error.")
	if got := w.Header().Get("Retry-After"); got != "" {
		t.Errorf("Retry-After is %q", got)
	}
	if !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), "42P01") {
		t.Errorf("logged:\n%s", log)
	}
}

// throughProxy opens a second pool to the database of another, through a proxy.
func throughProxy(t *testing.T, pool *pgxpool.Pool) (*proxy.Proxy, *pgxpool.Pool) {
	t.Helper()
	way, err := proxy.For(pool.Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	faulty, err := pgxpool.New(t.Context(), way.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, faulty)
	return way, faulty
}

// TestConnectionLostDuringCommit loses the answer after the server has committed.
func TestConnectionLostDuringCommit(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	way, faulty := throughProxy(t, pool)
	api, log := newAPI(t, faulty)
	way.CutAt(proxy.ToClient, proxy.Containing("SELECT 1\x00"))
	w := postRide(api)
	wantError(t, w, http.StatusServiceUnavailable, msgUnknown)
	if got := w.Header().Get("Retry-After"); got != "" {
		t.Errorf("Retry-After is %q, which asks for the ride to be booked twice", got)
	}
	if !strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("logged:\n%s", log)
	}
	wantRides(t, pool, 1)
}

func TestClientGone(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, log := newAPI(t, pool)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, "/rides?distance=1", nil)
	api.ServeHTTP(httptest.NewRecorder(), r)
	if log.String() != "" {
		t.Errorf("logged:\n%s", log)
	}
	wantRides(t, pool, 0)
}

// brokenDatabase panics with a value; without one it has no connection to give.
type brokenDatabase struct {
	Database
	value any
}

func (b brokenDatabase) Acquire(context.Context) (*pgxpool.Conn, error) {
	if b.value == nil {
		return nil, io.EOF
	}
	panic(b.value)
}

func (b brokenDatabase) QueryRow(context.Context, string, ...any) pgx.Row { panic(b.value) }

func TestPanicInHandler(t *testing.T) {
	t.Parallel()
	api, log := newAPI(t, brokenDatabase{value: "secret"})
	wantError(t, request(api, http.MethodGet, "/rides/1", "", ""), http.StatusInternalServerError, "Internal server error.")
	for _, want := range []string{"err=secret", "path=/rides/1", "brokenDatabase", " request_id="} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}

	// How handlers cut off an answer; the server knows what to do with it.
	api, log = newAPI(t, brokenDatabase{value: http.ErrAbortHandler})
	defer func() {
		if v := recover(); v != http.ErrAbortHandler || log.String() != "" {
			t.Errorf("recovered %v and logged:\n%s", v, log)
		}
	}()
	request(api, http.MethodGet, "/rides/1", "", "")
}
