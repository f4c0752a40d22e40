package httpserver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Health answers, over HTTP, how a process is doing:
//
//	GET /healthz       200 as long as the process serves
//	GET /readyz        200 {"ready":true}, or 503 {"ready":false,"reason":"…"}
//	GET /metrics       what it counts, for Prometheus
//	GET /debug/pprof/  what it spends time and memory on, for go tool pprof
//
// This is for operators, not for everyone: let Addr be one that only they reach.
type Health struct {
	// Addr is where to listen, as host:port.
	Addr string
	// Ready returns why the process is not ready, or nil. It is called
	// concurrently, and must not wait for long.
	Ready func(ctx context.Context) error
	// Metrics is what /metrics shows.
	Metrics prometheus.Gatherer
	Log     *slog.Logger
}

var _ http.Handler = (*Health)(nil)

// healthShutdown bounds the wait for requests in hand when the process stops.
const healthShutdown = time.Second

// healthTimeout bounds a scrape, and a look whether the database answers.
const healthTimeout = 5 * time.Second

// Listen takes the address, so that what is wrong with it is known before the
// process begins its work.
func (h *Health) Listen(ctx context.Context) (net.Listener, error) {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", h.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: choose another address with --admin-listen or ADMIN_LISTEN: %w", h.Addr, errors.Unwrap(err))
	}
	return ln, nil
}

// Serve takes requests from ln until ctx ends.
func (h *Health) Serve(ctx context.Context, ln net.Listener) error {
	err := Server{Name: "admin", Handler: h, WorkTimeout: healthTimeout, ShutdownTimeout: healthShutdown, Log: h.Log}.Serve(ctx, ln)
	if err != nil && ctx.Err() != nil {
		h.Log.Info("a scrape or a profile was cut off by the end", "err", err)
		return nil
	}
	return err
}

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case path == "/healthz":
		only(w, r, Alive, http.MethodGet, http.MethodHead)
	case path == "/readyz":
		only(w, r, Ready(h.Ready), http.MethodGet, http.MethodHead)
	case path == "/metrics":
		only(w, r, promhttp.HandlerFor(h.Metrics, promhttp.HandlerOpts{}).ServeHTTP, http.MethodGet, http.MethodHead)
	// These two put the write timeout off by the seconds that they are asked for.
	case path == "/debug/pprof/profile":
		only(w, r, pprof.Profile, http.MethodGet)
	case path == "/debug/pprof/trace":
		only(w, r, pprof.Trace, http.MethodGet)
	// It has no cmdline, which may hold a password.
	case strings.HasPrefix(path, "/debug/pprof/"):
		only(w, r, pprof.Index, http.MethodGet)
	default:
		refuse(w, http.StatusNotFound, "There is nothing at this path.")
	}
}

// Ready answers /readyz by what reason returns.
func Ready(reason func(context.Context) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := reason(r.Context()); err != nil {
			w.Header().Set("Retry-After", "1")
			writeJSON(w, http.StatusServiceUnavailable, readyBody{Reason: err.Error()})
			return
		}
		writeJSON(w, http.StatusOK, readyBody{Ready: true})
	}
}

// Alive answers /healthz.
func Alive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}

type readyBody struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

// only lets a request with one of the methods through.
func only(w http.ResponseWriter, r *http.Request, handle http.HandlerFunc, methods ...string) {
	if slices.Contains(methods, r.Method) {
		handle(w, r)
		return
	}
	allow := strings.Join(methods, ", ")
	w.Header().Set("Allow", allow)
	refuse(w, http.StatusMethodNotAllowed, "This path takes "+allow+" only.")
}

func refuse(w http.ResponseWriter, status int, message string) {
	writeJSON(w, status, struct {
		Error string `json:"error"`
	}{message})
}

func writeJSON(w http.ResponseWriter, status int, body any) {
	encoded, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	// Fails only where nobody reads the answer any more.
	_, _ = w.Write(append(encoded, '\n'))
}
