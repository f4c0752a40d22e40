package rides

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// serve runs the api on a port of its own, and returns its URL and a way to stop
// it and hear how that went.
func serve(t *testing.T, api *API, wrap ...func(net.Listener) net.Listener) (base string, stop func() error) {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range wrap {
		ln = f(ln)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- api.Serve(ctx, ln) }()
	stopped := false
	stop = func() error {
		stopped = true
		cancel()
		return await.Receive(t, "the api to end", ended)
	}
	t.Cleanup(func() {
		if !stopped {
			if err := stop(); err != nil {
				t.Error(err)
			}
		}
	})
	if api.tls != nil {
		return "https://" + ln.Addr().String(), stop
	}
	return "http://" + ln.Addr().String(), stop
}

// newClientFor returns a client whose connections end with the test.
func newClientFor(t *testing.T) *http.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

type posted struct {
	status int
	err    error
}

func postTo(t *testing.T, client *http.Client, base string) <-chan posted {
	t.Helper()
	answered := make(chan posted, 1)
	go func() {
		resp, err := client.PostForm(base+"/rides", url.Values{"distance": {"1"}})
		if err != nil {
			answered <- posted{err: err}
			return
		}
		_, err = io.Copy(io.Discard, resp.Body)
		answered <- posted{resp.StatusCode, errors.Join(err, resp.Body.Close())}
	}()
	return answered
}

func TestShutdownFinishesRequestsInHand(t *testing.T) {
	t.Parallel()
	eachWay(t, finishesRequestsInHand)
}

func finishesRequestsInHand(t *testing.T, w way) {
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, _ := newAPI(t, pool, w.configure)
	base, stop := serve(t, patient(api))
	answered := postTo(t, w.newClient(t), base)
	waitingBackend(t, pool)
	next := postTo(t, w.newClient(t), base)
	awaitWaiting(t, api, 1)

	ended := make(chan error, 1)
	go func() { ended <- stop() }()
	// New connections are refused while the request in hand goes on.
	_, address, _ := strings.Cut(base, "://")
	await.That(t, "connections to be refused", func() string {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return fmt.Sprint(err)
		}
		return ""
	})
	release()
	for _, c := range []<-chan posted{answered, next} {
		if a := await.Receive(t, "an answer", c); a.status != http.StatusCreated || a.err != nil {
			t.Errorf("answered %d, %v", a.status, a.err)
		}
	}
	if err := await.Receive(t, "the end", ended); err != nil {
		t.Error(err)
	}
	wantRides(t, pool, 2)
}

func TestShutdownCutsOffWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	eachWay(t, cutsOffWhatTakesTooLong)
}

func cutsOffWhatTakesTooLong(t *testing.T, w way) {
	pool := newDatabase(t)
	release := lockRides(t, pool)
	api, _ := newAPI(t, pool, func(c *APIConfig) {
		c.ShutdownTimeout = 50 * time.Millisecond // which is over while the ride cannot be booked
	}, w.configure)
	base, stop := serve(t, api)
	answered := postTo(t, w.newClient(t), base)
	waitingBackend(t, pool)
	if err := stop(); err == nil || !strings.Contains(err.Error(), "cut off 1 requests that took longer than 50ms") {
		t.Errorf("Serve returned %v", err)
	}
	if a := await.Receive(t, "an answer", answered); a.status == http.StatusCreated {
		t.Error("the request was answered 201")
	}
	api.bookings.mu.Lock()
	if n := api.bookings.workers; n != 0 {
		t.Errorf("%d workers are left", n)
	}
	api.bookings.mu.Unlock()
	release()
	wantRides(t, pool, 0)
}

func TestShutdownIgnoresSilentConnections(t *testing.T) {
	t.Parallel()
	eachWay(t, ignoresSilentConnections)
}

func ignoresSilentConnections(t *testing.T, w way) {
	api, _ := newAPI(t, newDatabase(t), func(c *APIConfig) { c.ShutdownTimeout = 50 * time.Millisecond }, w.configure)
	base, stop := serve(t, api)
	_, address, _ := strings.Cut(base, "://")
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	// Answered on a later connection, so the first has been accepted.
	if a := await.Receive(t, "an answer", postTo(t, w.newClient(t), base)); a.status != http.StatusCreated {
		t.Fatalf("answered %d, %v", a.status, a.err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestServeOnClosedListener(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, brokenDatabase{})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := api.Serve(t.Context(), ln); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve returned %v", err)
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	addr := ln.Addr().String()
	api, _ := newAPI(t, brokenDatabase{}, func(c *APIConfig) { c.Addr = addr })
	want := "api: " + addr + " is in use: stop the process that listens there, or choose another port with --port or API_PORT"
	if err := api.Run(t.Context()); err == nil || err.Error() != want {
		t.Errorf("Run returned %v", err)
	}
}

func TestListenErrorIsOneLine(t *testing.T) {
	t.Parallel()
	for cause, want := range map[error]string{
		syscall.EACCES:         "choose a port from 1024 up",
		syscall.EADDRNOTAVAIL:  "choose another with --listen",
		errors.New("whatever"): "listen on h:1: whatever",
	} {
		err := listenError("h:1", &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", cause)})
		if !strings.HasPrefix(err.Error(), "api: ") || strings.Contains(err.Error(), "\n") ||
			!strings.Contains(strings.ReplaceAll(err.Error(), "listen: bind: ", ""), want) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

func TestRunUntilContextEnds(t *testing.T) {
	t.Parallel()
	api, log := newAPI(t, brokenDatabase{}, func(c *APIConfig) { c.Addr = "127.0.0.1:0" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := api.Run(ctx); err != nil {
		t.Errorf("Run returned %v and logged:\n%s", err, log)
	}
}

func TestAPIConfig(t *testing.T) {
	t.Parallel()
	if _, err := NewAPI(APIConfig{}); err == nil {
		t.Error("took a config without a database")
	}
	if _, err := NewAPI(APIConfig{DB: brokenDatabase{}, DBTimeout: -1}); err == nil {
		t.Error("took a negative timeout")
	}
	api, err := NewAPI(APIConfig{DB: brokenDatabase{}})
	if err != nil || api.cfg.Addr != "127.0.0.1:5005" {
		t.Errorf("the default is %q, %v; want only this machine to reach it", api.cfg.Addr, err)
	}
}

func TestHeaderLimit(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, brokenDatabase{})
	base, _ := serve(t, api)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/healthz", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Large", strings.Repeat("x", 64<<10))
	resp, err := newClientFor(t).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %d", resp.StatusCode)
	}
}

func TestBodyThatDoesNotArrive(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, brokenDatabase{})
	for cause, want := range map[error]posted{
		os.ErrDeadlineExceeded: {408, errors.New("The request's body took too long to arrive.")},
		io.ErrUnexpectedEOF:    {400, errors.New("The request's body could not be read.")},
	} {
		r := httptest.NewRequest(http.MethodPost, "/rides", iotest.ErrReader(cause))
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		wantError(t, w, want.status, want.err.Error())
	}
}
