package rides

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
)

// patient has the api never book a group while another one is stuck, however slow the
// machine is.
func patient(a *API) *API {
	a.bookings.patience = time.Hour
	return a
}

// post posts a ride of a distance.
func post(a *API, distance string) <-chan *httptest.ResponseRecorder {
	return postWithin(context.Background(), a, distance)
}

func postWithin(ctx context.Context, a *API, distance string) <-chan *httptest.ResponseRecorder {
	answered := make(chan *httptest.ResponseRecorder, 1)
	go func() {
		w := httptest.NewRecorder()
		a.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodPost, "/rides?distance="+distance, nil))
		answered <- w
	}()
	return answered
}

// awaitWaiting returns when so many bookings wait for their turn.
func awaitWaiting(t *testing.T, a *API, want int) {
	t.Helper()
	await.Equal(t, "the bookings that wait", want, func() int {
		a.bookings.mu.Lock()
		defer a.bookings.mu.Unlock()
		return len(a.bookings.waiting)
	})
}

// overdue has the api's groups run out of their time when expire is called, and not
// before. The database may take until then to say how they ended.
func overdue(a *API) (expire func()) {
	ctx := expiring{context.Background(), make(chan struct{})}
	a.bookings.within = func(time.Time) (context.Context, context.CancelFunc) { return context.WithCancel(ctx) }
	return sync.OnceFunc(func() { close(ctx.done) })
}

// expiring is a context whose deadline is over when its channel is closed.
type expiring struct {
	context.Context
	done chan struct{}
}

func (e expiring) Done() <-chan struct{} { return e.done }

func (e expiring) Err() error {
	select {
	case <-e.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// gather lets bookings wait for each other until release is called.
func gather(a *API) (release func()) {
	b := &a.bookings
	b.mu.Lock()
	defer b.mu.Unlock()
	b.workers++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.workers--
		b.hire()
	}
}

// wantTransactions sees how many transactions made the rides.
func wantTransactions(t *testing.T, pool *pgxpool.Pool, want int) {
	t.Helper()
	var got int
	err := pool.QueryRow(t.Context(), `SELECT count(DISTINCT r.xmin::text) FROM rides r JOIN unilog.staged_records s ON s.xmin = r.xmin`).Scan(&got)
	if err != nil || got != want {
		t.Errorf("%d transactions made the rides (%v), want %d", got, err, want)
	}
}

func wantStatus(t *testing.T, answered <-chan *httptest.ResponseRecorder, status int, holds string) {
	t.Helper()
	if w := await.Receive(t, "an answer", answered); w.Code != status || !strings.Contains(w.Body.String(), holds) {
		t.Errorf("answered %d %s; want %d and %q", w.Code, w.Body, status, holds)
	}
}

func TestBookingsThatWaitShareATransaction(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, _ := newAPI(t, pool)
	patient(api)
	first := post(api, "1")
	waitingBackend(t, pool) // a lone booking waits for no company
	distances := []string{"2.0", "3", "2.0", "4.25", "5"}
	answers := make([]<-chan *httptest.ResponseRecorder, len(distances))
	for i, d := range distances {
		answers[i] = post(api, d)
	}
	awaitWaiting(t, api, len(distances))
	release()
	wantStatus(t, first, http.StatusCreated, `"distance":1,`)
	for i, d := range distances {
		w := await.Receive(t, "an answer", answers[i])
		shown := request(api, http.MethodGet, w.Header().Get("Location"), "", "").Body.String()
		if w.Code != http.StatusCreated || !strings.Contains(shown, `"distance":`+d+`,`) ||
			!strings.HasSuffix(w.Body.String(), strings.TrimPrefix(shown, "{")) {
			t.Errorf("%s is answered %d %s, and shown as %s", d, w.Code, w.Body, shown)
		}
	}
	wantRides(t, pool, 1+len(distances))
	wantTransactions(t, pool, 2)
}

func TestBookingsInGroupsOfABoundedSize(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	release := gather(patient(api))
	answers := make([]<-chan *httptest.ResponseRecorder, maxGroup+1)
	for i := range answers {
		answers[i] = post(api, "1")
	}
	awaitWaiting(t, api, len(answers))
	release()
	for _, answered := range answers {
		wantStatus(t, answered, http.StatusCreated, "")
	}
	wantRides(t, pool, len(answers))
	wantTransactions(t, pool, 2)
}

// A distance that the api takes and the database refuses is the fault of one
// booking alone.
func TestBadBookingHarmsNoOther(t *testing.T) {
	t.Parallel()
	for name, refuse := range map[string]string{
		"refused at once": `ALTER TABLE rides ADD CHECK (distance <> 13)`,
		"refused at the commit": `
			CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END $$;
			CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON rides DEFERRABLE INITIALLY DEFERRED
				FOR EACH ROW WHEN (NEW.distance = 13) EXECUTE FUNCTION refuse()`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newDatabase(t)
			if _, err := pool.Exec(t.Context(), refuse); err != nil {
				t.Fatal(err)
			}
			api, log := newAPI(t, pool)
			release := gather(patient(api))
			bad, good, better := post(api, "13"), post(api, "14"), post(api, "15")
			awaitWaiting(t, api, 3)
			release()
			wantStatus(t, bad, http.StatusInternalServerError, "Internal server error.")
			wantStatus(t, good, http.StatusCreated, `"distance":14,`)
			wantStatus(t, better, http.StatusCreated, `"distance":15,`)
			wantRides(t, pool, 2)
			if n := strings.Count(log.String(), "level=ERROR"); n != 1 {
				t.Errorf("%d errors are logged, want 1:\n%s", n, log)
			}
		})
	}
}

// What keeps the database from serving anyone is not tried again for each.
func TestGroupThatCannotBeServed(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if _, err := pool.Exec(t.Context(), `
		CREATE FUNCTION busy() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '55P03'; END $$;
		CREATE TRIGGER busy BEFORE INSERT ON rides FOR EACH ROW EXECUTE FUNCTION busy()`); err != nil {
		t.Fatal(err)
	}
	way, slow := throughProxy(t, pool)
	var sent atomic.Int32
	way.CutAt(proxy.ToServer, func(chunk []byte) bool {
		sent.Add(int32(bytes.Count(chunk, []byte("13.5"))))
		return false // nothing is cut
	})
	api, _ := newAPI(t, slow)
	release := gather(patient(api))
	answers := []<-chan *httptest.ResponseRecorder{post(api, "13.5"), post(api, "2")}
	awaitWaiting(t, api, 2)
	release()
	for _, answered := range answers {
		wantRetryLater(t, await.Receive(t, "an answer", answered), msgBusy)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("a booking was sent %d times, want once", n)
	}
}

func TestGroupWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		direction proxy.Direction
		match     string
		rides     int
	}{
		"the statement is lost": {proxy.ToServer, "13.5", 0},
		"its answer is lost":    {proxy.ToClient, "SELECT 3\x00", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := newDatabase(t)
			way, faulty := throughProxy(t, pool)
			api, _ := newAPI(t, Pool{faulty})
			release := gather(patient(api))
			answers := []<-chan *httptest.ResponseRecorder{post(api, "1"), post(api, "13.5"), post(api, "3")}
			awaitWaiting(t, api, 3)
			way.CutAt(c.direction, proxy.Containing(c.match))
			release()
			for _, answered := range answers {
				wantError(t, await.Receive(t, "an answer", answered), http.StatusServiceUnavailable, msgUnknown)
			}
			wantRides(t, pool, c.rides)
		})
	}
}

func TestClientGoneBeforeItsTurn(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	release := gather(patient(api))
	stays := post(api, "1")
	awaitWaiting(t, api, 1)
	ctx, leave := context.WithCancel(t.Context())
	goes := postWithin(ctx, api, "2")
	awaitWaiting(t, api, 2)
	leave()
	wantStatus(t, goes, http.StatusServiceUnavailable, "cut off")
	release()
	wantStatus(t, stays, http.StatusCreated, `"distance":1,`)
	wantRides(t, pool, 1)
}

// A client that goes does not call off the group that it is in; nor does the
// group go on when all have gone.
func TestClientGoneWhileItsGroupIsBooked(t *testing.T) {
	t.Parallel()
	for _, all := range []bool{false, true} {
		pool := newDatabase(t)
		unlock := lockRides(t, pool)
		api, _ := newAPI(t, pool)
		release := gather(patient(api))
		ctx, leave := context.WithCancel(t.Context())
		other := t.Context()
		if all {
			other = ctx
		}
		goes, stays := postWithin(ctx, api, "2"), postWithin(other, api, "1")
		awaitWaiting(t, api, 2)
		release()
		waitingBackend(t, pool)
		leave()
		wantStatus(t, goes, http.StatusServiceUnavailable, "cut off")
		if all {
			wantStatus(t, stays, http.StatusServiceUnavailable, "cut off")
			api.bookings.wait()
			unlock()
			wantRides(t, pool, 0)
			continue
		}
		unlock()
		wantStatus(t, stays, http.StatusCreated, `"distance":1,`)
		wantRides(t, pool, 2)
	}
}

func TestBookingThatWaitsTooLong(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, func(c *APIConfig) { c.DBTimeout = 50 * time.Millisecond })
	release := gather(patient(api))
	wantRetryLater(t, await.Receive(t, "an answer", post(api, "1")), msgSlow)
	release()
	api.bookings.wait()
	wantRides(t, pool, 0)
}

// stallAt keeps rides of one distance waiting, but no others, until release is
// called.
func stallAt(t *testing.T, pool *pgxpool.Pool, distance string) (release func()) {
	t.Helper()
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	release = func() { _, _ = conn.Exec(context.Background(), `SELECT pg_advisory_unlock_all()`) }
	t.Cleanup(func() {
		release()
		conn.Release()
	})
	_, err = conn.Exec(t.Context(), `
		CREATE FUNCTION stall() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			PERFORM pg_advisory_xact_lock(1);
			RETURN NEW;
		END $$;
		CREATE TRIGGER stall BEFORE INSERT ON rides FOR EACH ROW WHEN (NEW.distance = `+distance+`) EXECUTE FUNCTION stall();
		SELECT pg_advisory_lock(1)`)
	if err != nil {
		t.Fatal(err)
	}
	return release
}

// Bookings that come while others are stuck, in a lock or in a network that
// swallows everything, pass them by.
func TestStuckGroupHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	unstall := stallAt(t, pool, "13")
	api, _ := newAPI(t, pool)
	stuck := post(api, "13")
	waitingBackend(t, pool)
	for range 10 {
		wantStatus(t, post(api, "1"), http.StatusCreated, "")
	}
	unstall()
	wantStatus(t, stuck, http.StatusCreated, "")
	wantRides(t, pool, 11)
	api.bookings.wait()
	if b := &api.bookings; b.workers != 0 || b.stuck != 0 {
		t.Errorf("when all is done, %d workers are left, %d of them stuck", b.workers, b.stuck)
	}
}

func TestPanicWhileBooking(t *testing.T) {
	t.Parallel()
	api, log := newAPI(t, brokenDatabase{value: "secret"})
	wantError(t, postRide(api), http.StatusServiceUnavailable, msgUnknown)
	for _, want := range []string{"panic: secret", "path=/rides", "brokenDatabase"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log)
		}
	}
}
