package rides

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// newDatabase gives a test a database of its own, with all tables.
func newDatabase(t testing.TB) *pgxpool.Pool {
	t.Helper()
	return testenv.Database(t, "rides", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer, MigrationSet)
	})
}

// reconnect opens a second pool to the database of another, with changes.
func reconnect(t *testing.T, pool *pgxpool.Pool, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg := pool.Config()
	change(cfg)
	changed, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, changed)
	return changed
}

// newAPI returns an api and what it logs.
func newAPI(t testing.TB, db Database, change ...func(*APIConfig)) (*API, *buffer) {
	t.Helper()
	log := new(buffer)
	// Whatever the machine is busy with, nobody gives up.
	cfg := APIConfig{DB: db, Log: slog.New(slog.NewTextHandler(log, nil)), DBTimeout: 3 * await.Patience, ShutdownTimeout: await.Patience}
	for _, f := range change {
		f(&cfg)
	}
	a, err := NewAPI(cfg)
	if err != nil {
		t.Fatal(err)
	}
	a.bookings.farewell = cfg.DBTimeout / 3
	a.backlog.timeout = await.Patience
	return a, log
}

// buffer is a bytes.Buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

func request(h http.Handler, method, target, contentType, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if contentType != "" {
		r.Header.Set("Content-Type", contentType)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// wantError checks the status and the whole body of a refusal.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, message string) {
	t.Helper()
	want := `{"error":"` + message + `"}`
	if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != status || got != want {
		t.Errorf("answered %d %s; want %d %s", w.Code, got, status, want)
	}
	if got := w.Header().Get("Content-Type"); got != jsonType {
		t.Errorf("Content-Type is %q", got)
	}
}

// wantRides checks how many rides and staged records there are: always as many
// of the one as of the other.
func wantRides(t *testing.T, pool *pgxpool.Pool, want int) {
	t.Helper()
	var rides, staged int
	err := pool.QueryRow(t.Context(), `
		SELECT (SELECT count(*) FROM rides), (SELECT count(*) FROM unilog.staged_records)`).Scan(&rides, &staged)
	if err != nil || rides != want || staged != want {
		t.Errorf("%d rides and %d staged records (%v); want %d of each", rides, staged, err, want)
	}
}
