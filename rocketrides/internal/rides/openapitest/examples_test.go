package openapitest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// example is a request, and the status that it must be answered with.
type example struct {
	api                               http.Handler
	method, target, contentType, body string
	status                            int
}

// examples are apis in every state that the document knows of.
type examples struct {
	*testing.T
	api                    http.Handler // as usual; it has the ride 1
	down, broken, stalled  http.Handler
	guarded, limited       http.Handler // ask for the token a; limited has heard enough of it
	full, behind, inFlight http.Handler
}

func newExamples(t *testing.T) *examples {
	t.Helper()
	x := &examples{T: t}
	db := x.database()
	x.api = x.newAPI(db, rides.APIConfig{})
	x.post(x.api, "")
	x.stalled = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = io.NopCloser(iotest.ErrReader(os.ErrDeadlineExceeded))
		x.api.ServeHTTP(w, r)
	})

	nowhere := db.Config()
	nowhere.ConnConfig.Host, nowhere.ConnConfig.Fallbacks = t.TempDir(), nil
	down, err := pgxpool.NewWithConfig(t.Context(), nowhere)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(down.Close)
	x.down = x.newAPI(down, rides.APIConfig{})
	tableless := x.database()
	x.exec(tableless, `DROP TABLE rides`)
	x.broken = x.newAPI(tableless, rides.APIConfig{})

	tokens := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(tokens, fmt.Appendf(nil, "alice %x\n", sha256.Sum256([]byte("a"))), 0o600); err != nil {
		t.Fatal(err)
	}
	x.guarded = x.newAPI(db, rides.APIConfig{TokensFile: tokens})
	x.limited = x.exhausted(x.newAPI(db, rides.APIConfig{TokensFile: tokens, RateLimit: 1}))
	x.stall()
	x.fallBehind()
	return x
}

func (x *examples) database() *pgxpool.Pool {
	x.Helper()
	return testenv.Database(x, "rides", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer, rides.MigrationSet)
	})
}

func (x *examples) exec(db *pgxpool.Pool, sql string) {
	x.Helper()
	if _, err := db.Exec(x.Context(), sql); err != nil {
		x.Fatal(err)
	}
}

func (x *examples) newAPI(db *pgxpool.Pool, cfg rides.APIConfig) *rides.API {
	x.Helper()
	cfg.DB, cfg.DBTimeout, cfg.ShutdownTimeout, cfg.Log = db, await.Patience, await.Patience, slog.New(slog.DiscardHandler)
	api, err := rides.NewAPI(cfg)
	if err != nil {
		x.Fatal(err)
	}
	return api
}

// post books a ride, with a key if there is one, and returns the status.
func (x *examples) post(api http.Handler, key string) int {
	r := httptest.NewRequest(http.MethodPost, "/rides?distance=1", nil)
	if key != "" {
		r.Header.Set("Idempotency-Key", key)
	}
	w := httptest.NewRecorder()
	api.ServeHTTP(w, r)
	return w.Code
}

// exhausted is an api of which all requests are more than it takes in a second.
func (x *examples) exhausted(api http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			x.Error(err)
		}
		answer := httptest.NewRecorder()
		await.Equal(x, "the status", http.StatusTooManyRequests, func() int {
			r.Body, answer = io.NopCloser(bytes.NewReader(body)), httptest.NewRecorder()
			api.ServeHTTP(answer, r)
			return answer.Code
		})
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	})
}

// stall makes full, an api with as many requests in hand as it may have, and
// inFlight, one that has yet to book the ride of a key.
func (x *examples) stall() {
	x.Helper()
	db := x.database()
	lock, err := db.Begin(x.Context())
	if err != nil {
		x.Fatal(err)
	}
	if _, err := lock.Exec(x.Context(), `LOCK TABLE rides IN ACCESS EXCLUSIVE MODE`); err != nil {
		x.Fatal(err)
	}
	x.full, x.inFlight = x.newAPI(db, rides.APIConfig{MaxRequests: 1}), x.newAPI(db, rides.APIConfig{})
	booked := make(chan int, 2)
	go func() { booked <- x.post(x.full, "") }()
	go func() { booked <- x.post(x.inFlight, "in flight") }()
	await.Equal(x, "the rides that wait for the lock", 2, func() (n int) {
		err := db.QueryRow(x.Context(), `
			SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&n)
		if err != nil {
			x.Fatal(err)
		}
		return n
	})
	x.Cleanup(func() {
		_ = lock.Rollback(context.Background())
		for range 2 {
			if status := await.Receive(x, "a ride to be booked", booked); status != http.StatusCreated {
				x.Errorf("a ride that had to wait is answered %d", status)
			}
		}
	})
}

// fallBehind makes behind, an api that has seen too many records wait.
func (x *examples) fallBehind() {
	x.Helper()
	db := x.database()
	x.exec(db, `UPDATE unilog.partitions SET next_offset = 10`)
	api := x.newAPI(db, rides.APIConfig{MaxBacklog: 1})
	ln, err := new(net.ListenConfig).Listen(x.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		x.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(ctx, ln) }()
	x.Cleanup(func() {
		stop()
		if err := await.Receive(x, "the api to end", ended); err != nil {
			x.Error(err)
		}
	})
	await.Equal(x, "the status", http.StatusServiceUnavailable, func() int { return x.post(api, "") })
	x.behind = api
}

func with(api http.Handler, name string, values ...string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header[name] = values
		api.ServeHTTP(w, r)
	})
}

// byOperation returns requests that get every answer which the document describes.
func (x *examples) byOperation() map[string][]example {
	key := func(api http.Handler, key string) http.Handler { return with(api, "Idempotency-Key", key) }
	as := func(api http.Handler, authorization ...string) http.Handler {
		return with(api, "Authorization", authorization...)
	}
	return map[string][]example{
		"POST /rides": {
			{key(x.api, "k"), "POST", "/rides", formType, "distance=123.0", 201},
			{key(x.api, "k"), "POST", "/rides", formType, "distance=123.1", 422},
			{key(x.api, ""), "POST", "/rides", formType, "distance=123.0", 400},
			{key(x.inFlight, "in flight"), "POST", "/rides", formType, "distance=123.0", 409},
			{x.api, "POST", "/rides", formType, "distance=123.0", 201},
			{x.api, "POST", "/rides", formType, "distance=.5e1&x=y", 201},
			{x.api, "POST", "/rides", jsonType, `{"distance":1e9}`, 201},
			{x.api, "POST", "/rides", jsonType, `{"distance":"1.50","x":[]}`, 201},
			{x.api, "POST", "/rides?distance=0", "", "", 201},
			{x.api, "POST", "/rides", jsonType, "{", 400},
			{x.api, "POST", "/rides?distance=%zz", "", "", 400},
			{x.api, "GET", "/rides", "", "", 405},
			{x.stalled, "POST", "/rides", formType, "distance=1", 408},
			{x.api, "POST", "/rides", formType, strings.Repeat("x", 4097), 413},
			{x.api, "POST", "/rides", "text/plain", "distance=1", 415},
			{x.api, "POST", "/rides", formType, "", 422},
			{x.broken, "POST", "/rides", formType, "distance=1", 500},
			{x.down, "POST", "/rides", formType, "distance=1", 503},
			{x.guarded, "POST", "/rides", formType, "distance=1", 401},
			{as(x.guarded, "Bearer b"), "POST", "/rides", formType, "distance=1", 401},
			{as(x.guarded, "Bearer a", "Bearer b"), "POST", "/rides", formType, "distance=1", 400},
			{as(x.limited, "Bearer a"), "POST", "/rides", formType, "distance=1", 429},
			{x.full, "POST", "/rides", formType, "distance=1", 503},
			{x.behind, "POST", "/rides", formType, "distance=1", 503},
		},
		"GET /rides/{id}": {
			{x.api, "GET", "/rides/1", "", "", 200},
			{x.api, "HEAD", "/rides/1", "", "", 200},
			{x.api, "GET", "/rides/x", "", "", 400},
			{x.api, "GET", "/rides/9223372036854775807", "", "", 404},
			{x.api, "DELETE", "/rides/1", "", "", 405},
			{x.broken, "GET", "/rides/1", "", "", 500},
			{x.down, "GET", "/rides/1", "", "", 503},
			{x.guarded, "GET", "/rides/1", "", "", 401},
			{as(x.guarded, "Bearer"), "GET", "/rides/1", "", "", 400},
			{as(x.limited, "Bearer a"), "GET", "/rides/1", "", "", 429},
			{x.full, "GET", "/rides/1", "", "", 503},
		},
		"GET /healthz": {
			{x.api, "GET", "/healthz", "", "", 200},
			{x.api, "HEAD", "/healthz", "", "", 200},
			{x.api, "POST", "/healthz", "", "", 405},
		},
		"GET /readyz": {
			{x.api, "GET", "/readyz", "", "", 200},
			{x.api, "HEAD", "/readyz", "", "", 200},
			{x.api, "POST", "/readyz", "", "", 405},
			{x.down, "GET", "/readyz", "", "", 503},
		},
		"GET /openapi.yaml": {
			{x.api, "GET", "/openapi.yaml", "", "", 200},
			{x.api, "HEAD", "/openapi.yaml", "", "", 200},
			{x.api, "POST", "/openapi.yaml", "", "", 405},
		},
	}
}
