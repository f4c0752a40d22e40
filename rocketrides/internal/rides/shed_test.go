package rides

import (
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
)

func wantRefused(t *testing.T, w *httptest.ResponseRecorder, why *refusal) {
	t.Helper()
	wantError(t, w, why.status, why.message)
	if got := w.Header().Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q", got)
	}
}

func TestMaxRequests(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, log := newAPI(t, pool, func(c *APIConfig) { c.MaxRequests = 2 })
	held := []<-chan *httptest.ResponseRecorder{post(patient(api), "1"), post(api, "1")}
	waitingBackend(t, pool)
	await.Equal(t, "the requests in hand", 2, api.inHand.Load)
	wantRefused(t, postRide(api), tooManyRequests)
	wantRefused(t, request(api, http.MethodGet, "/rides/1", "", ""), tooManyRequests)
	for _, open := range []string{"/healthz", "/readyz", "/openapi.yaml"} {
		if w := request(api, http.MethodGet, open, "", ""); w.Code != http.StatusOK {
			t.Errorf("%s is answered %d %s", open, w.Code, w.Body)
		}
	}
	release()
	for _, answered := range held {
		wantStatus(t, answered, http.StatusCreated, "")
	}
	if w := postRide(api); w.Code != http.StatusCreated {
		t.Errorf("afterwards a ride is answered %d %s", w.Code, w.Body)
	}
	wantRides(t, pool, 3)
	// One line a second.
	if n := strings.Count(log.String(), "reason=concurrency"); n == 0 {
		t.Errorf("logged:\n%s", log)
	}
}

// TestSlowBodyTakesNoPlace books a ride while the body of another is on its way.
func TestSlowBodyTakesNoPlace(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, func(c *APIConfig) { c.MaxRequests = 1 })
	body, slow := io.Pipe()
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		api.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/rides", body))
		answered <- w
	}()
	// Written when it is read.
	if _, err := io.WriteString(slow, "distance="); err != nil {
		t.Fatal(err)
	}
	if w := postRide(api); w.Code != http.StatusCreated {
		t.Errorf("the fast one is answered %d %s", w.Code, w.Body)
	}
	if _, err := io.WriteString(slow, "2"); err != nil {
		t.Fatal(err)
	}
	_ = slow.Close()
	wantStatus(t, answered, http.StatusCreated, `"distance":2,`)
	wantRides(t, pool, 2)
}

// TestRequestWithoutATokenTakesNoPlace fills the api with callers, and finds that
// a stranger is told that he is one.
func TestRequestWithoutATokenTakesNoPlace(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, newDatabase(t), withTokens(tokensFile(t, "alice TOKEN:a\n")), func(c *APIConfig) { c.MaxRequests = 1 })
	api.inHand.Store(1)
	wantRefused(t, requestAs(api, http.MethodPost, "/rides?distance=1", "Bearer a"), tooManyRequests)
	wantError(t, requestAs(api, http.MethodPost, "/rides?distance=1"), http.StatusUnauthorized, noToken.message)
}

// TestStuckDatabaseShedsBookings has all workers stuck, and as many bookings wait
// as one of them could take.
func TestStuckDatabaseShedsBookings(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, log := newAPI(t, reconnect(t, pool, func(c *pgxpool.Config) { c.MaxConns = 1 }))
	api.bookings.patience = time.Millisecond
	var held []<-chan *httptest.ResponseRecorder
	for n := range maxWorkers {
		held = append(held, post(api, "1"))
		await.Equal(t, "the workers that are stuck", n+1, func() int {
			api.bookings.mu.Lock()
			defer api.bookings.mu.Unlock()
			return api.bookings.stuck
		})
	}
	for range maxGroup {
		held = append(held, post(api, "1"))
	}
	awaitWaiting(t, api, maxGroup)
	wantRefused(t, postRide(api), poolExhausted)
	if !strings.Contains(log.String(), "reason=pool") {
		t.Errorf("logged:\n%s", log)
	}
	release()
	for _, answered := range held {
		wantStatus(t, answered, http.StatusCreated, "")
	}
	if w := postRide(api); w.Code != http.StatusCreated {
		t.Errorf("afterwards a ride is answered %d %s", w.Code, w.Body)
	}
	wantRides(t, pool, len(held)+1)
}

const stageRows = `INSERT INTO unilog.staged_records (action, object, data) SELECT 'create', 'ride', '{}' FROM generate_series(1, $1)`

// TestBacklogShedsBookings grows and shrinks the backlog.
func TestBacklogShedsBookings(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, log := newAPI(t, pool, func(c *APIConfig) { c.MaxBacklog = 5 })
	ride := postRide(api).Header().Get("Location")
	refuses := func(want bool, after string, args ...any) {
		t.Helper()
		if _, err := pool.Exec(t.Context(), after, args...); err != nil {
			t.Fatal(err)
		}
		api.lookAtBacklog(t.Context())
		w := request(api, http.MethodPost, "/rides", formType, "") // which is otherwise a 422
		if want {
			wantRefused(t, w, tooFarBehind)
		} else if w.Code != http.StatusUnprocessableEntity {
			t.Errorf("after %s a booking is answered %d %s", after, w.Code, w.Body)
		}
		for _, path := range []string{ride, "/readyz"} {
			if w := request(api, http.MethodGet, path, "", ""); w.Code != http.StatusOK {
				t.Errorf("after %s, %s is answered %d %s", after, path, w.Code, w.Body)
			}
		}
	}
	refuses(false, stageRows, 4)
	refuses(true, stageRows, 1)
	refuses(false, `DELETE FROM unilog.staged_records WHERE id = 1`)
	// What is numbered and not published counts as well.
	refuses(true, `UPDATE unilog.partitions SET next_offset = 3, published_offset = 1`)
	refuses(false, `DELETE FROM unilog.staged_records`)
	refuses(true, `UPDATE unilog.partitions SET next_offset = 8`)
	// Partitions count together.
	refuses(false, `UPDATE unilog.partitions SET published_offset = 5`)
	refuses(true, `INSERT INTO unilog.partitions (partition, next_offset) VALUES (1, 5)`)
	refuses(false, `DELETE FROM unilog.partitions WHERE partition = 1`)
	refuses(true, `UPDATE unilog.partitions SET published_offset = 1`)
	if n := strings.Count(log.String(), "bookings are refused"); n != 5 {
		t.Errorf("logged %d times that bookings are refused, want 5:\n%s", n, log)
	}
	// When nobody knows, they are taken.
	refuses(false, `ALTER TABLE unilog.partitions RENAME TO hidden`)
	refuses(false, `SELECT`)
	if n := strings.Count(log.String(), "the backlog is not known"); n != 1 {
		t.Errorf("logged %d times that it is not known, want once:\n%s", n, log)
	}
	refuses(true, `ALTER TABLE unilog.hidden RENAME TO partitions`)
}

func TestBacklogIsWatched(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, func(c *APIConfig) { c.MaxBacklog = 1 })
	serve(t, api)
	for _, change := range []struct {
		sql  string
		over bool
	}{
		{`UPDATE unilog.partitions SET next_offset = 3`, true},
		{`UPDATE unilog.partitions SET published_offset = 2`, false},
	} {
		if _, err := pool.Exec(t.Context(), change.sql); err != nil {
			t.Fatal(err)
		}
		await.Equal(t, "the api to see "+change.sql, change.over, api.backlog.over.Load)
	}
}

// TestBacklogIsReckonedByItsIndex sees that a look reads next to nothing of a long
// backlog.
func TestBacklogIsReckonedByItsIndex(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	const rows = 100_000
	if _, err := pool.Exec(t.Context(), stageRows, rows); err != nil {
		t.Fatal(err)
	}
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			if _, err := pool.Exec(t.Context(), `VACUUM ANALYZE unilog.staged_records`); err != nil {
				t.Fatal(err)
			}
		}
		found, err := pool.Query(t.Context(), `EXPLAIN (ANALYZE, TIMING off, COSTS off) `+sqlBacklog)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(found, pgx.RowTo[string])
		plan := strings.Join(lines, "\n")
		if err != nil || strings.Count(plan, "using staged_records_pkey") != 2 || regexp.MustCompile(`actual rows=([2-9]|\d\d)`).MatchString(plan) {
			t.Errorf("analyzed %v: %v\n%s", analyzed, err, plan)
		}
	}
	var records int
	if err := pool.QueryRow(t.Context(), sqlBacklog).Scan(&records); err != nil || records != rows {
		t.Errorf("the backlog is %d (%v), want %d", records, err, rows)
	}
}
