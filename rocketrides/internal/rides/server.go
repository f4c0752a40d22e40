package rides

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Run listens and serves until ctx ends, then stops as [API.Serve] does.
func (a *API) Run(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", a.cfg.Addr)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return listenError(a.cfg.Addr, err)
	}
	return a.Serve(ctx, ln)
}

// listenError says in one line what to do.
func listenError(addr string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("api: %s is in use: stop the process that listens there, or choose another port with --port or API_PORT", addr)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("api: no permission to listen on %s: choose a port from 1024 up with --port or API_PORT", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("api: %s is not an address of this machine: choose another with --listen", addr)
	default:
		return fmt.Errorf("api: listen on %s: %w", addr, err)
	}
}

// Serve takes requests from ln until ctx ends. Then it closes ln, finishes the
// requests in hand within the configured bound, and returns nil, or an error
// that tells how many it had to cut off. Nothing of it runs on after it
// returns. The end of ctx does not reach requests in hand before that bound.
func (a *API) Serve(ctx context.Context, ln net.Listener) error {
	// What nobody waits for any more ends soon, but not at once.
	defer a.bookings.wait()
	upkeep, stop := context.WithCancel(ctx)
	var ended sync.WaitGroup
	ended.Go(func() { a.forgetKeysInTime(upkeep) })
	if a.cfg.MaxBacklog > 0 {
		ended.Go(func() { a.watchBacklog(upkeep) })
	}
	defer ended.Wait()
	defer stop()
	return server{"api", a, a.cfg.DBTimeout, a.cfg.ShutdownTimeout, a.cfg.Log, a.tls}.serve(ctx, ln)
}

// What clients may take.
const (
	// headerTimeout bounds the arrival of a request's header.
	headerTimeout = 5 * time.Second
	// requestTimeout bounds the arrival of a whole request.
	requestTimeout = 10 * time.Second
	// answerTimeout bounds the sending of an answer.
	answerTimeout = 5 * time.Second
	// keepAlive bounds the silence between two requests of a connection.
	keepAlive = 60 * time.Second
)

// server serves one handler, see [API.Serve].
type server struct {
	// name is for its errors and its log.
	name    string
	handler http.Handler
	// workTimeout is what the handler may take.
	workTimeout     time.Duration
	shutdownTimeout time.Duration
	log             *slog.Logger
	// tls is nil for plain HTTP.
	tls *tls.Config
}

func (s server) serve(ctx context.Context, ln net.Listener) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var inHand atomic.Int64
	var conns sync.WaitGroup
	// HTTP/2 runs handlers beside their connection.
	var handlers sync.RWMutex
	over := false

	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			handlers.RLock()
			defer handlers.RUnlock()
			if over {
				return
			}
			inHand.Add(1)
			defer inHand.Add(-1)
			// Whoever stands between may see the end of the request elsewhere, if
			// it also gives a length, and pass on another's as a part of it.
			if len(r.TransferEncoding) > 0 {
				w.Header().Set("Connection", "close")
			}
			s.handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		// Reading, the work and the answer, one after the other.
		WriteTimeout:   requestTimeout + s.workTimeout + answerTimeout,
		IdleTimeout:    keepAlive,
		MaxHeaderBytes: 16 << 10,
		TLSConfig:      s.tls,
		// Else net/http answers OPTIONS * itself, which is no path here.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
		// A connection is new once, before its goroutine starts, and closed
		// once, when it ends; nothing here is ever hijacked.
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed:
				conns.Done()
			default:
			}
		},
	}

	finish := func() {
		_ = srv.Close()
		conns.Wait()
		handlers.Lock()
		over = true
		handlers.Unlock()
	}

	served := make(chan error, 1)
	scheme, serve := "http://", func() error { return srv.Serve(ln) }
	if s.tls != nil {
		scheme, serve = "https://", func() error { return srv.ServeTLS(ln, "", "") }
	}
	go func() { served <- serve() }()
	s.log.Info(s.name+" listens", "url", scheme+ln.Addr().String())

	select {
	case err := <-served:
		cut()
		finish()
		return fmt.Errorf("%s: serve: %w", s.name, err)
	case <-ctx.Done():
	}

	bound, cancel := context.WithTimeout(requests, s.shutdownTimeout)
	defer cancel()
	err := srv.Shutdown(bound)
	<-served
	left := inHand.Load()
	cut()
	// What is left now are connections on which no request has arrived, and
	// those that were cut off.
	finish()
	if left > 0 {
		return fmt.Errorf("%s: cut off %d requests that took longer than %s to finish: %w", s.name, left, s.shutdownTimeout, err)
	}
	return nil
}
