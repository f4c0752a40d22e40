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
	running := s.serving(requests)
	served := make(chan error, 1)
	scheme, serve := "http://", func() error { return running.http.Serve(ln) }
	if s.TLS != nil {
		scheme, serve = "https://", func() error { return running.http.ServeTLS(ln, "", "") }
	}
	go func() { served <- serve() }()
	s.Log.Info(s.Name+" listens", "url", scheme+ln.Addr().String())

	select {
	case err := <-served:
		cut()
		running.finish()
		return fmt.Errorf("%s: serve: %w", s.Name, err)
	case <-ctx.Done():
	}

	bound, cancel := context.WithTimeout(requests, s.ShutdownTimeout)
	defer cancel()
	err := running.http.Shutdown(bound)
	<-served
	left := running.inHand.Load()
	cut()
	// What is left now are connections on which no request has arrived, and
	// those that were cut off.
	running.finish()
	if left > 0 {
		return fmt.Errorf("%s: cut off %d requests that took longer than %s to finish: %w", s.Name, left, s.ShutdownTimeout, err)
	}
	return nil
}
