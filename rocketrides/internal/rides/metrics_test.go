package rides

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/rocketrides/unilog/internal/testenv"
)

// wantSamples compares what a registry shows with all that is wanted of a prefix.
func wantSamples(t *testing.T, reg *prometheus.Registry, prefix string, want map[string]float64) {
	t.Helper()
	server := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer server.Close()
	_, got := testenv.Scrape(t, server.URL)
	maps.DeleteFunc(got, func(name string, _ float64) bool { return !strings.HasPrefix(name, prefix) })
	if !maps.Equal(got, want) {
		t.Errorf("the metrics are %v, want %v", got, want)
	}
}

func TestAPIMetrics(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	reg := prometheus.NewRegistry()
	api, _ := newAPI(t, pool, func(cfg *APIConfig) { cfg.Metrics = NewAPIMetrics(reg, pool) })
	for range 2 { // the second gets the first one's answer
		r := httptest.NewRequest(http.MethodPost, "/rides", strings.NewReader("distance=1"))
		r.Header.Set("Content-Type", formType)
		r.Header.Set("Idempotency-Key", "k")
		api.ServeHTTP(httptest.NewRecorder(), r)
	}
	postRide(api)
	request(api, http.MethodPost, "/rides", formType, "distance=x")
	request(api, http.MethodGet, "/rides/1", "", "")
	request(api, http.MethodGet, "/rides/2", "", "")
	request(api, "BREW", "/rides", "", "")
	request(api, http.MethodGet, "/rides/1/pilot", "", "")
	wantSamples(t, reg, "rocketrides_http_requests", map[string]float64{
		"rocketrides_http_requests_in_flight":                                          0,
		`rocketrides_http_requests_total{code="201",method="POST",route="/rides"}`:     3,
		`rocketrides_http_requests_total{code="422",method="POST",route="/rides"}`:     1,
		`rocketrides_http_requests_total{code="200",method="GET",route="/rides/{id}"}`: 2,
		`rocketrides_http_requests_total{code="405",method="other",route="/rides"}`:    1,
		`rocketrides_http_requests_total{code="404",method="GET",route="other"}`:       1,
	})
	wantSamples(t, reg, "rocketrides_rides_booked_total", map[string]float64{"rocketrides_rides_booked_total": 2})
	wantSamples(t, reg, "rocketrides_booking_group_rides_sum", map[string]float64{"rocketrides_booking_group_rides_sum": 3})
	wantSamples(t, reg, "rocketrides_db_connections", map[string]float64{
		`rocketrides_db_connections{state="idle"}`:   float64(pool.Stat().IdleConns()),
		`rocketrides_db_connections{state="in_use"}`: 0,
		`rocketrides_db_connections{state="max"}`:    float64(pool.Config().MaxConns),
	})
}

func TestRefusalsAreCounted(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	reg := prometheus.NewRegistry()
	api, _ := newAPI(t, pool, withTokens(tokensFile(t, "alice TOKEN:a\nbob TOKEN:b\n")), func(cfg *APIConfig) {
		cfg.RateLimit, cfg.MaxRequests, cfg.Metrics = 1, 1, NewAPIMetrics(reg, pool)
	})
	const ride = "/rides?distance=1"
	requestAs(api, http.MethodPost, ride)
	useUp(api, client{caller: "alice"})
	requestAs(api, http.MethodPost, ride, "Bearer a")
	api.inHand.Store(1)
	requestAs(api, http.MethodPost, ride, "Bearer b")
	api.inHand.Store(0)
	api.backlog.over.Store(true)
	api.limits = nil
	requestAs(api, http.MethodPost, ride, "Bearer b")
	api.backlog.over.Store(false)
	api.bookings.stuck, api.bookings.waiting = maxWorkers, make([]*booking, maxGroup)
	requestAs(api, http.MethodPost, ride, "Bearer b")
	want := map[string]float64{}
	for _, reason := range []string{"unauthorized", "rate_limit", "concurrency", "backlog", "pool"} {
		want[`rocketrides_requests_refused_total{reason="`+reason+`"}`] = 1
	}
	wantSamples(t, reg, "rocketrides_requests_refused_total", want)
	wantRides(t, pool, 0)
}

// What operators see is not for everyone.
func TestClientsGetNoMetrics(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, func(cfg *APIConfig) { cfg.Metrics = NewAPIMetrics(prometheus.NewRegistry(), pool) })
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/heap", "/debug/vars"} {
		wantError(t, request(api, http.MethodGet, path, "", ""), http.StatusNotFound, "There is nothing at this path.")
	}
}

func TestSimulatorMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	counts := tally{out: io.Discard, metrics: NewSimulatorMetrics(reg)}
	for _, a := range []answer{
		{status: http.StatusCreated},
		{status: http.StatusCreated},
		{status: http.StatusCreated, retries: 2},
		{status: http.StatusInternalServerError, retries: 9},
		{err: errors.New("lost"), cutOff: true},
	} {
		counts.add(a)
	}
	counts.miss()
	wantSamples(t, reg, "rocketrides_simulator_rides_total", map[string]float64{
		`rocketrides_simulator_rides_total{outcome="accepted"}`: 2, `rocketrides_simulator_rides_total{outcome="retried"}`: 1,
		`rocketrides_simulator_rides_total{outcome="failed"}`: 1, `rocketrides_simulator_rides_total{outcome="not_sent"}`: 1,
	})
	wantSamples(t, reg, "rocketrides_simulator_request_duration_seconds_count",
		map[string]float64{"rocketrides_simulator_request_duration_seconds_count": 3})
}
