package httpserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/rocketrides/unilog/internal/await"
)

func request(h http.Handler, method, path string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w
}

// newClientFor returns a client whose connections end with the test.
func newClientFor(t *testing.T) *http.Client {
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: await.Patience}
}

// wantReadyz sees what a handler says about its readiness.
func wantReadyz(t *testing.T, h http.Handler, status int, body string) {
	t.Helper()
	w := request(h, http.MethodGet, "/readyz")
	if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != status || got != body {
		t.Errorf("/readyz answered %d %s; want %d %s", w.Code, got, status, body)
	}
	if got := w.Header().Get("Retry-After"); (got == "1") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After is %q", got)
	}
}

// wantError checks the status and the whole body of a refusal.
func wantError(t *testing.T, w *httptest.ResponseRecorder, status int, message string) {
	t.Helper()
	want := `{"error":"` + message + `"}`
	if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != status || got != want {
		t.Errorf("answered %d %s; want %d %s", w.Code, got, status, want)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var reason error
	h := &Health{Ready: func(context.Context) error { return reason }}
	wantReadyz(t, h, http.StatusOK, `{"ready":true}`)
	reason = errors.New("halted")
	wantReadyz(t, h, http.StatusServiceUnavailable, `{"ready":false,"reason":"halted"}`)
	if w := request(h, http.MethodGet, "/healthz"); w.Code != http.StatusOK || w.Body.String() != "{\"status\":\"ok\"}\n" {
		t.Errorf("/healthz answered %d %s", w.Code, w.Body)
	}
	wantError(t, request(h, http.MethodPost, "/readyz"), http.StatusMethodNotAllowed, "This path takes GET, HEAD only.")
	wantError(t, request(h, http.MethodGet, "/"), http.StatusNotFound, "There is nothing at this path.")
}

func TestHealthShowsMetricsAndProfiles(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	promauto.With(reg).NewCounter(prometheus.CounterOpts{Name: "answers_total"})
	h := &Health{Metrics: reg}
	for path, want := range map[string]string{
		"/metrics":                       `answers_total 0`,
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/goroutine?debug=1": "TestHealthShowsMetricsAndProfiles",
	} {
		if w := request(h, http.MethodGet, path); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s answered %d %s; want %q", path, w.Code, w.Body, want)
		}
	}
	// Flags may hold a password.
	if w := request(h, http.MethodGet, "/debug/pprof/cmdline"); w.Code != http.StatusNotFound {
		t.Errorf("/debug/pprof/cmdline answered %d %s", w.Code, w.Body)
	}
	wantError(t, request(h, http.MethodPost, "/metrics"), http.StatusMethodNotAllowed, "This path takes GET, HEAD only.")
}

// A profile may be asked to take longer than any answer.
func TestProfileOutlastsTheWriteTimeout(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const writeTimeout = 200 * time.Millisecond
	admin := Server{
		Name: "admin", Handler: &Health{}, Log: slog.New(slog.DiscardHandler),
		WorkTimeout: writeTimeout - requestTimeout - answerTimeout, ShutdownTimeout: healthShutdown,
	}
	ended := make(chan error, 1)
	go func() { ended <- admin.Serve(ctx, ln) }()
	client := newClientFor(t)
	// Again if this was so slow that even the time beyond the profile's own was over.
	await.That(t, "a profile", func() string {
		resp, err := client.Get("http://" + ln.Addr().String() + "/debug/pprof/profile?seconds=1")
		if err != nil {
			return err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		if profile, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || len(profile) == 0 {
			return fmt.Sprintf("answered %d and %d bytes, %v", resp.StatusCode, len(profile), err)
		}
		return ""
	})
	stop()
	if err := await.Receive(t, "the end", ended); err != nil {
		t.Error(err)
	}
}

// Who is cut off by the end makes it no failure.
func TestHealthEndsDuringARequest(t *testing.T) {
	t.Parallel()
	began := make(chan struct{})
	h := &Health{Log: slog.New(slog.DiscardHandler), Ready: func(ctx context.Context) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}}
	ctx, stop := context.WithCancel(t.Context())
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(ctx, ln) }()
	var asked sync.WaitGroup
	asked.Go(func() {
		if resp, err := newClientFor(t).Get("http://" + ln.Addr().String() + "/readyz"); err == nil {
			_ = resp.Body.Close()
		}
	})
	await.Receive(t, "the request", began)
	stop()
	if err := await.Receive(t, "the end", ended); err != nil {
		t.Error(err)
	}
	asked.Wait()
}

func TestHealthServes(t *testing.T) {
	t.Parallel()
	h := &Health{Addr: "127.0.0.1:0", Ready: func(context.Context) error { return nil }, Log: slog.New(slog.DiscardHandler)}
	ctx, stop := context.WithCancel(t.Context())
	ln, err := h.Listen(ctx)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- h.Serve(ctx, ln) }()
	resp, err := newClientFor(t).Get("http://" + ln.Addr().String() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("answered %d %s, %v", resp.StatusCode, body, err)
	}
	stop()
	if err := await.Receive(t, "the end", ended); err != nil {
		t.Error(err)
	}
}

func TestHealthAddressInUse(t *testing.T) {
	t.Parallel()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	_, err = (&Health{Addr: ln.Addr().String()}).Listen(t.Context())
	if err == nil || !strings.Contains(err.Error(), "choose another address with --admin-listen") {
		t.Errorf("Listen returned %v", err)
	}
}
