package rides

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

func TestSimulatorPrintsEachResponse(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{}
		start := time.Now()
		out, err := simulate(t, t.Context(), SimulatorConfig{Rate: 10, For: 10 * time.Second, Seed: 7, Transport: api})
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != 10*time.Second {
			t.Errorf("took %s", took)
		}
		n := len(api.distances)
		if n < 60 || n > 140 { // four standard deviations
			t.Errorf("%d rides in 10 s at 10 a second", n)
		}
		wantOutput(t, out,
			`Booking 10 rides a second at http://api.test \(seed 7\)`,
			`Response: status=201 body=\{"n":201\}`,
			fmt.Sprintf(`Rides in 10s: %d created, 0 failed, 0 not sent; answered in 0s on average, 0s at most`, n))
		if got := strings.Count(out, "Response: "); got != n {
			t.Errorf("%d responses printed of %d", got, n)
		}
	})
}

func TestSimulatorDistances(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) []string {
		var distances []string
		synctest.Test(t, func(t *testing.T) {
			api := &fakeAPI{}
			if _, err := simulate(t, t.Context(), SimulatorConfig{Rate: 1000, For: 5 * time.Second, Seed: seed, Transport: api}); err != nil {
				t.Fatal(err)
			}
			distances = api.distances
		})
		return distances
	}
	places := map[int]int{}
	first := run(1)
	for _, d := range first {
		v, ok := new(big.Rat).SetString(d)
		if !ok || v.Cmp(big.NewRat(5, 1)) < 0 || v.Cmp(big.NewRat(1000, 1)) > 0 {
			t.Errorf("distance %q", d)
		}
		if _, err := ParseDistance(d); err != nil {
			t.Error(err)
		}
		_, fraction, _ := strings.Cut(d, ".")
		places[len(fraction)]++
	}
	if len(first) < 4000 || len(places) != 2 || places[1] < 1000 || places[2] < 1000 {
		t.Errorf("%d distances, by their number of decimal places: %v", len(first), places)
	}
	if again := run(1); strings.Join(again, " ") != strings.Join(first, " ") {
		t.Error("the same seed gave other distances")
	}
	if other := run(2); strings.Join(other, " ") == strings.Join(first, " ") {
		t.Error("another seed gave the same distances")
	}
}

// TestSimulatorIsAnOpenLoop holds that a slow api does not slow the simulator
// down: what does not fit into the bound is counted.
func TestSimulatorIsAnOpenLoop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{took: 2500 * time.Millisecond}
		start := time.Now()
		out, err := simulate(t, t.Context(), SimulatorConfig{Rate: 100, For: 2 * time.Second, Concurrency: 5, Seed: 1, Transport: api})
		if err != nil {
			t.Fatal(err)
		}
		if len(api.distances) != 5 {
			t.Errorf("%d requests at once", len(api.distances))
		}
		// Until the last of the five is answered, and no longer.
		if took := time.Since(start); took < 2500*time.Millisecond || took > 2900*time.Millisecond {
			t.Errorf("took %s", took)
		}
		wantOutput(t, out,
			`Rides: 0 created, 0 failed, \d{2,3} not sent`,
			`Rides in 2\.\ds: 5 created, 0 failed, 1\d\d not sent; answered in 2\.5s on average, 2\.5s at most`)
	})
}

func TestSimulatorReportsMissedRidesWhenSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		api := &fakeAPI{took: 3 * time.Second}
		out, err := simulate(t, t.Context(), SimulatorConfig{Rate: 20, For: time.Second, Concurrency: 1, Transport: api})
		if err != nil {
			t.Fatal(err)
		}
		wantOutput(t, out, `Not sent: the api has yet to answer every request that may be in flight`)
	})
}

func TestSimulatorFails(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		api  *fakeAPI
		rate float64
		want string
	}{
		"status, slow":         {&fakeAPI{status: 503}, 10, `status=503 body={"n":503}`},
		"status, fast":         {&fakeAPI{status: 422}, 500, `status=422 body={"n":422}`},
		"success that is none": {&fakeAPI{status: 200}, 500, `status=200 body={"n":200}`},
		"timeout":              {&fakeAPI{took: time.Hour}, 10, `failed: Post "http://api.test/rides": context deadline exceeded`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				out, err := simulate(t, t.Context(), SimulatorConfig{Rate: tc.rate, For: 2 * time.Second, Seed: 1, Transport: tc.api})
				n := len(tc.api.distances)
				want := fmt.Sprintf("simulator: %d of %d requests failed; the first: %s", n, n, tc.want)
				if err == nil || err.Error() != want {
					t.Errorf("Run returned %v; want %s", err, want)
				}
				wantOutput(t, out, regexp.QuoteMeta("Response: "+tc.want), `Rides in .*: 0 created, \d+ failed, .*`)
				// Of a fast simulator's failures, one a second is shown.
				if shown := strings.Count(out, "Response:"); tc.rate > readableRate && shown > 3 {
					t.Errorf("%d failures shown", shown)
				}
			})
		})
	}
}

func TestSimulatorWaitsForTheAPI(t *testing.T) {
	t.Parallel()
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	t.Run("until it answers", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			up := time.Now().Add(20 * time.Second)
			api := &fakeAPI{}
			late := roundTrip(func(r *http.Request) (*http.Response, error) {
				if time.Now().Before(up) {
					return nil, refused
				}
				return api.RoundTrip(r)
			})
			if _, err := simulate(t, t.Context(), SimulatorConfig{For: time.Second, Transport: late}); err != nil {
				t.Error(err)
			}
			if len(api.distances) == 0 {
				t.Error("no rides")
			}
		})
	})
	for name, api := range map[string]*fakeAPI{"that never is": {err: refused}, "that is another server": {}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				cfg := SimulatorConfig{Wait: 30 * time.Second, Transport: api}
				want := `connection refused`
				if api.err == nil {
					cfg.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
						return &http.Response{StatusCode: 404, Body: http.NoBody, Request: r}, nil
					})
					want = `GET /healthz answered 404`
				}
				_, err := simulate(t, t.Context(), cfg)
				if err == nil || !strings.Contains(err.Error(), "no api answered at http://api.test within 30s: start one with `rocketrides api`, or") ||
					!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
					t.Errorf("Run returned %v", err)
				}
				if took := time.Since(start); took != 30*time.Second {
					t.Errorf("gave up after %s", took)
				}
			})
		})
	}
}

func TestSimulatorShutdownIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		api  *fakeAPI
		took time.Duration
		want string
	}{
		"while it waits":    {&fakeAPI{err: errors.New("refused")}, 5 * time.Second, ``},
		"answers in time":   {&fakeAPI{took: time.Second}, 6 * time.Second, `Rides in .*: \d+ created, 0 failed, 0 not sent; .*`},
		"answers too late":  {&fakeAPI{took: 9 * time.Second}, 7 * time.Second, `Rides in .*: 0 created, 0 failed, 0 not sent, \d+ cut off by the end`},
		"api stops too":     {&fakeAPI{took: 6 * time.Second, status: 503}, 7 * time.Second, `Rides in .*: 0 created, 0 failed, 0 not sent, \d+ cut off by the end`},
		"nothing in flight": {&fakeAPI{}, 5 * time.Second, `Rides in 5s: \d+ created, 0 failed, 0 not sent; .*`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				start := time.Now()
				out, err := simulate(t, ctx, SimulatorConfig{Rate: 10, Seed: 1, Transport: tc.api})
				if err != nil {
					t.Error(err)
				}
				if took := time.Since(start); took > tc.took {
					t.Errorf("took %s", took)
				}
				wantOutput(t, out, tc.want)
			})
		})
	}
}

// TestSimulatorStopsJustAfterTheAPI is Ctrl-C at a terminal, which reaches all
// processes at about the same time.
func TestSimulatorStopsJustAfterTheAPI(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		down := time.Now().Add(4900 * time.Millisecond)
		api := &fakeAPI{}
		stopping := roundTrip(func(r *http.Request) (*http.Response, error) {
			if time.Now().After(down) {
				return nil, io.EOF
			}
			return api.RoundTrip(r)
		})
		out, err := simulate(t, ctx, SimulatorConfig{Rate: 100, Seed: 1, Transport: stopping})
		if err != nil {
			t.Error(err)
		}
		wantOutput(t, out, `Rides in 5s: \d+ created, 0 failed, 0 not sent, \d+ sent again, \d+ cut off by the end; .*`)
	})
}

func TestSimulatorConfig(t *testing.T) {
	t.Parallel()
	const u = "http://127.0.0.1:5005"
	for want, cfgs := range map[string][]SimulatorConfig{
		"URL":                  {{}, {URL: "127.0.0.1:5005"}, {URL: "ftp://x"}, {URL: "http://"}, {URL: "http://%zz"}},
		"Rate":                 {{URL: u, Rate: -1}, {URL: u, Rate: 1e7}, {URL: u, Rate: math.NaN()}, {URL: u, Rate: math.Inf(1)}},
		"must not be negative": {{URL: u, Concurrency: -1}, {URL: u, For: -1}, {URL: u, Wait: -1}},
	} {
		for _, cfg := range cfgs {
			if _, err := NewSimulator(cfg); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: %v", cfg, err)
			}
		}
	}
	s, err := NewSimulator(SimulatorConfig{URL: u + "/"})
	if err != nil || s.cfg.Rate != 10 || s.cfg.Concurrency != 64 || s.cfg.Seed == 0 || s.cfg.URL != u {
		t.Errorf("defaults: %+v, %v", s.cfg, err)
	}
}

// TestSimulatorAgainstTheAPI runs both on a real database, at a rate at which
// the simulator must use its connections again.
func TestSimulatorAgainstTheAPI(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	var bookings, connections atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api.ServeHTTP(w, r)
		if r.Method == http.MethodPost {
			bookings.Add(1)
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	server.Start()
	defer server.Close()

	out := new(buffer)
	s, err := NewSimulator(SimulatorConfig{URL: server.URL, Rate: 1000, Concurrency: 8, Wait: await.Patience, RetryFor: await.Patience, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	await.True(t, "300 bookings", func() bool { return bookings.Load() >= 300 })
	// It ends when no answer is on its way, lest that be cut off.
	s.SetRate(1e-6)
	await.True(t, "the rate to change", func() bool { return strings.Contains(out.String(), "from now on") })
	await.Equal(t, "the requests in flight", 0, func() int { return len(s.slots) })
	stop()
	if err := await.Receive(t, "the simulator to end", ended); err != nil {
		t.Error(err)
	}
	// One that was dialled for a request can lose it to one that became free, so
	// there may be more than requests at a time. Without any reuse, there is one for
	// each request.
	n := int(bookings.Load())
	if got := connections.Load(); got > int64(n)/2 {
		t.Errorf("%d connections for %d requests", got, n)
	}
	// One that took too long was sent again, which books it once.
	var booked int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM idempotency_keys`).Scan(&booked); err != nil || booked > n {
		t.Errorf("%d rides of %d requests, %v", booked, n, err)
	}
	wantRides(t, pool, booked)
	wantOutput(t, out.String(), fmt.Sprintf(`Rides in .*: %d created, 0 failed, .*`, booked))
}
