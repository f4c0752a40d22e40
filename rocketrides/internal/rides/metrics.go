package rides

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rocketrides/unilog/internal/histogram"
)

// APIMetrics counts what an [API] does. Nothing is counted by a nil one.
type APIMetrics struct {
	inFlight prometheus.Gauge
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	groups   prometheus.Histogram
	booked   prometheus.Counter
	refused  *prometheus.CounterVec
}

// NewAPIMetrics registers the metrics of one api and of its pool.
func NewAPIMetrics(reg prometheus.Registerer, pool *pgxpool.Pool) *APIMetrics {
	m := promauto.With(reg)
	for state, value := range map[string]func(*pgxpool.Stat) int32{
		"idle":   (*pgxpool.Stat).IdleConns,
		"in_use": (*pgxpool.Stat).AcquiredConns,
		"max":    (*pgxpool.Stat).MaxConns,
	} {
		m.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "rocketrides_db_connections", Help: "Connections to Postgres by their state; max is how many there may be.",
			ConstLabels: prometheus.Labels{"state": state},
		}, func() float64 { return float64(value(pool.Stat())) })
	}
	out := &APIMetrics{
		inFlight: m.NewGauge(prometheus.GaugeOpts{
			Name: "rocketrides_http_requests_in_flight", Help: "Requests that have no answer yet.",
		}),
		requests: m.NewCounterVec(prometheus.CounterOpts{
			Name: "rocketrides_http_requests_total", Help: "Requests that were answered; method and route are other where the api knows none such. Code 499 is for clients that left.",
		}, []string{"method", "route", "code"}),
		took: m.NewHistogramVec(histogram.Options("rocketrides_http_request_duration_seconds",
			"Time from a request's header to its answer, but for those that were refused.", histogram.Seconds), []string{"route"}),
		groups: m.NewHistogram(histogram.Options("rocketrides_booking_group_rides",
			"Bookings that shared a transaction.", histogram.Sizes)),
		booked: m.NewCounter(prometheus.CounterOpts{
			Name: "rocketrides_rides_booked_total",
			Help: "Rides that were booked, each with its record staged; not those whose commit got no answer.",
		}),
		refused: m.NewCounterVec(prometheus.CounterOpts{
			Name: "rocketrides_requests_refused_total", Help: "Requests that the api refused to try, by the reason.",
		}, []string{"reason"}),
	}
	for _, reason := range []string{"unauthorized", "rate_limit", "concurrency", "pool", "backlog"} {
		out.refused.WithLabelValues(reason)
	}
	return out
}

// clientClosedRequest is nginx's number for requests whose clients have gone.
const clientClosedRequest = 499

// begin counts a request in; what it returns counts it out.
func (m *APIMetrics) begin(rec *recorder, r *http.Request) (end func()) {
	if m == nil {
		return func() {}
	}
	started := time.Now()
	m.inFlight.Inc()
	return func() {
		m.inFlight.Dec()
		status := rec.status
		if status == http.StatusServiceUnavailable && errors.Is(r.Context().Err(), context.Canceled) {
			status = clientClosedRequest
		}
		m.requests.WithLabelValues(known(r.Method), rec.route, strconv.Itoa(status)).Inc()
		if !rec.refused && r.Method != http.MethodOptions {
			m.took.WithLabelValues(rec.route).Observe(time.Since(started).Seconds())
		}
	}
}

// known bounds how many methods there are.
func known(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// group counts the bookings that share a statement.
func (m *APIMetrics) group(bookings int) {
	if m != nil {
		m.groups.Observe(float64(bookings))
	}
}

// rides counts those that are new among the verdicts.
func (m *APIMetrics) rides(verdicts []verdict) {
	if m == nil {
		return
	}
	for _, v := range verdicts {
		if v.booked {
			m.booked.Inc()
		}
	}
}

func (m *APIMetrics) refuse(reason string) {
	if m != nil {
		m.refused.WithLabelValues(reason).Inc()
	}
}

// SimulatorMetrics counts what became of a [Simulator]'s rides. Nothing is counted
// by a nil one.
type SimulatorMetrics struct {
	outcomes *prometheus.CounterVec
	took     prometheus.Histogram
}

// NewSimulatorMetrics registers the metrics of one simulator.
func NewSimulatorMetrics(reg prometheus.Registerer) *SimulatorMetrics {
	m := promauto.With(reg)
	out := &SimulatorMetrics{
		outcomes: m.NewCounterVec(prometheus.CounterOpts{
			Name: "rocketrides_simulator_rides_total",
			Help: "Rides that came due: accepted at once, retried and then accepted, failed, or not_sent; not those that the end cut off.",
		}, []string{"outcome"}),
		took: m.NewHistogram(histogram.Options("rocketrides_simulator_request_duration_seconds",
			"Time from when a ride was due to when it was accepted.", histogram.Seconds)),
	}
	for _, outcome := range []string{"accepted", "retried", "failed", "not_sent"} {
		out.outcomes.WithLabelValues(outcome)
	}
	return out
}

func (m *SimulatorMetrics) answered(a answer) {
	switch {
	case m == nil:
	case a.created() && a.retries > 0:
		m.outcomes.WithLabelValues("retried").Inc()
		m.took.Observe(a.took.Seconds())
	case a.created():
		m.outcomes.WithLabelValues("accepted").Inc()
		m.took.Observe(a.took.Seconds())
	case !a.cutOff:
		m.outcomes.WithLabelValues("failed").Inc()
	}
}

func (m *SimulatorMetrics) notSent() {
	if m != nil {
		m.outcomes.WithLabelValues("not_sent").Inc()
	}
}
