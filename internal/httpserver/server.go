// Package httpserver serves HTTP until a context ends, and answers operators: the
// health, the metrics and the profiles of a process.
package httpserver

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

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

// Server serves one handler.
type Server struct {
	// Name is for its errors and its log.
	Name    string
	Handler http.Handler
	// WorkTimeout is what the handler may take.
	WorkTimeout time.Duration
	// ShutdownTimeout bounds the wait for requests in hand at the end.
	ShutdownTimeout time.Duration
	Log             *slog.Logger
	// TLS is nil for plain HTTP.
	TLS *tls.Config
}

// Serve takes requests from ln until ctx ends. Then it closes ln, finishes the
// requests in hand within the bound, and returns nil, or an error that tells how many
// it had to cut off. Nothing of it runs on after it returns. The end of ctx does not
// reach requests in hand before that bound.
func (s Server) Serve(ctx context.Context, ln net.Listener) error {
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
			s.Handler.ServeHTTP(w, r)
		}),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       requestTimeout,
		// Reading, the work and the answer, one after the other.
		WriteTimeout:   requestTimeout + s.WorkTimeout + answerTimeout,
		IdleTimeout:    keepAlive,
		MaxHeaderBytes: 16 << 10,
		TLSConfig:      s.TLS,
		// Else net/http answers OPTIONS * itself, which is no path here.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(s.Log.Handler(), slog.LevelWarn),
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
	if s.TLS != nil {
		scheme, serve = "https://", func() error { return srv.ServeTLS(ln, "", "") }
	}
	go func() { served <- serve() }()
	s.Log.Info(s.Name+" listens", "url", scheme+ln.Addr().String())

	select {
	case err := <-served:
		cut()
		finish()
		return fmt.Errorf("%s: serve: %w", s.Name, err)
	case <-ctx.Done():
	}

	bound, cancel := context.WithTimeout(requests, s.ShutdownTimeout)
	defer cancel()
	err := srv.Shutdown(bound)
	<-served
	left := inHand.Load()
	cut()
	// What is left now are connections on which no request has arrived, and
	// those that were cut off.
	finish()
	if left > 0 {
		return fmt.Errorf("%s: cut off %d requests that took longer than %s to finish: %w", s.Name, left, s.ShutdownTimeout, err)
	}
	return nil
}
