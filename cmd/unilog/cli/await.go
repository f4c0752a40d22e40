package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/httpserver"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// awaitMost bounds the pause between two attempts to reach a server that is not up yet.
	awaitMost = 5 * time.Second
	// losses are how many lost connections in a row are no reason to give up. What is no
	// such server at all loses each of them.
	losses = 5
)

// AwaitServer does what a process needs of a server when it starts, again and again as long
// as the server is not up yet, until ctx ends, and some times if it loses its connections. It
// says what it waits for, less and less often; meanwhile the process is alive and not ready.
// Any other error it returns at once.
func (f *AdminFlags) AwaitServer(ctx context.Context, log *slog.Logger, open func(ctx context.Context) error) error {
	err := open(ctx)
	if !isNotUp(err) && !isLost(err) {
		return err
	}
	var reason atomic.Value // an error
	reason.Store(waiting{err})
	stop, listenErr := f.serveUnready(ctx, log, func(context.Context) error { return reason.Load().(error) })
	if listenErr != nil {
		return listenErr
	}
	defer stop()
	retry := loop.Backoff{First: 100 * time.Millisecond, Most: awaitMost}
	began, said := time.Now(), time.Duration(-1)
	for lost := 0; isNotUp(err) || isLost(err) && lost < losses; err = open(ctx) {
		reason.Store(waiting{err})
		if isNotUp(err) {
			lost = 0
		} else {
			lost++
		}
		if waits := time.Since(began); waits > 2*said {
			log.Warn("waiting for a server that is not up yet", "err", err)
			said = max(waits, time.Second)
		}
		retry.Wait(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return err
}

// waiting is why a process is not ready.
type waiting struct{ err error }

func (w waiting) Error() string { return "waiting for a server that is not up yet: " + oneLine(w.err) }

// serveUnready tells of a process that waits, if it is to tell of its health.
func (f *AdminFlags) serveUnready(ctx context.Context, log *slog.Logger, ready func(context.Context) error) (stop func(), err error) {
	if f.AdminListen == "" {
		return func() {}, nil
	}
	health := &httpserver.Health{Addr: f.AdminListen, Ready: ready, Metrics: prometheus.NewRegistry(), Log: log}
	ln, err := health.Listen(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := health.Serve(ctx, ln); err != nil {
			log.Warn("cannot tell of the process's health", "err", err)
		}
	}()
	return func() { cancel(); <-ended }, nil
}

// isNotUp says whether nobody listens where a server is to be, or the server starts.
func isNotUp(err error) bool {
	var name *net.DNSError
	var dial *net.OpError
	if errors.As(err, &name) || errors.As(err, &dial) && dial.Op == "dial" && (errors.Is(dial, syscall.ECONNREFUSED) || errors.Is(dial, syscall.ENOENT)) {
		return true
	}
	const startingUp = "57P03"
	var redis *rueidis.RedisError
	return postgres.SQLState(err) == startingUp || errors.As(err, &redis) && redis.IsLoading()
}

// isLost says whether a server, or what is in between, has ended a connection.
func isLost(err error) bool {
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, lost) {
			return true
		}
	}
	code := postgres.SQLState(err)
	return code == "57P01" || code == "57P02" || strings.HasPrefix(code, "08")
}
