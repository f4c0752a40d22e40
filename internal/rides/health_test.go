package rides

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
)

// wantReadyz sees what a handler says about its readiness.
func wantReadyz(t *testing.T, h http.Handler, status int, body string) {
	t.Helper()
	w := request(h, http.MethodGet, "/readyz", "", "")
	if got := strings.TrimSuffix(w.Body.String(), "\n"); w.Code != status || got != body {
		t.Errorf("/readyz answered %d %s; want %d %s", w.Code, got, status, body)
	}
	if got := w.Header().Get("Retry-After"); (got == "1") != (status == http.StatusServiceUnavailable) {
		t.Errorf("Retry-After is %q", got)
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	var reason error
	h := &Health{Ready: func(context.Context) error { return reason }}
	wantReadyz(t, h, http.StatusOK, `{"ready":true}`)
	reason = errors.New("halted")
	wantReadyz(t, h, http.StatusServiceUnavailable, `{"ready":false,"reason":"halted"}`)
	if w := request(h, http.MethodGet, "/healthz", "", ""); w.Code != http.StatusOK || w.Body.String() != "{\"status\":\"ok\"}\n" {
		t.Errorf("/healthz answered %d %s", w.Code, w.Body)
	}
	wantError(t, request(h, http.MethodPost, "/readyz", "", ""), http.StatusMethodNotAllowed, "This path takes GET, HEAD only.")
	wantError(t, request(h, http.MethodGet, "/", "", ""), http.StatusNotFound, "There is nothing at this path.")
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
	if err := <-ended; err != nil {
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
