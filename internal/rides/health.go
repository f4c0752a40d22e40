package rides

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Health answers, over HTTP, how a process is doing that serves nothing else:
//
//	GET /healthz  200 as long as the process serves
//	GET /readyz   200 {"ready":true}, or 503 {"ready":false,"reason":"…"}
//
// The reasons are for operators, not for everyone: let Addr be one that only
// they reach.
type Health struct {
	// Addr is where to listen, as host:port.
	Addr string
	// Ready returns why the process is not ready, or nil. It is called
	// concurrently, and must not wait.
	Ready func() error
	Log   *slog.Logger
}

var _ http.Handler = (*Health)(nil)

// healthShutdown bounds the wait for requests in hand when the process stops.
const healthShutdown = time.Second

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
	return server{name: "admin", handler: h, shutdownTimeout: healthShutdown, log: h.Log}.serve(ctx, ln)
}

// ServeHTTP implements http.Handler.
func (h *Health) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		only(w, r, alive, http.MethodGet, http.MethodHead)
	case "/readyz":
		only(w, r, h.ready, http.MethodGet, http.MethodHead)
	default:
		writeNothingHere(w)
	}
}

func (h *Health) ready(w http.ResponseWriter, _ *http.Request) {
	if err := h.Ready(); err != nil {
		writeNotReady(w, err.Error())
		return
	}
	writeReady(w)
}

func alive(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
	}{"ok"})
}

type readyBody struct {
	Ready  bool   `json:"ready"`
	Reason string `json:"reason,omitempty"`
}

func writeReady(w http.ResponseWriter) { writeJSON(w, http.StatusOK, readyBody{Ready: true}) }

func writeNotReady(w http.ResponseWriter, reason string) {
	w.Header().Set("Retry-After", "1")
	writeJSON(w, http.StatusServiceUnavailable, readyBody{Reason: reason})
}
