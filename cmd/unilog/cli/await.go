package cli

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/httpserver"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// awaitMost bounds the pause between two attempts to reach a server that is not up yet.
	awaitMost = 5 * time.Second
	// lossesMost is for how long connections may be lost, one after the other, before a
	// process gives up: something that is no such server loses every one. PgBouncer tries
	// again to reach its own after 15 s (server_login_retry).
	lossesMost = 20 * time.Second
)

// AwaitServer does what a process needs of a server when it starts, again and again as long
// as the server is not up yet, until ctx ends, and for 20 seconds if it loses its connections.
// It says what it waits for, less and less often; meanwhile the process is alive and not
// ready. Any other error it returns at once.
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
	downAt := began // when it was last seen not to be up, if it was
	for isNotUp(err) || isLost(err) && time.Since(downAt) < lossesMost {
		reason.Store(waiting{err})
		if isNotUp(err) {
			downAt = time.Now()
		}
		if waits := time.Since(began); waits > 2*said {
			log.Warn(waiting{err}.what(), "err", err)
			said = max(waits, time.Second)
		}
		retry.Wait(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		err = open(ctx)
	}
	return err
}

// waiting is why a process is not ready.
type waiting struct{ err error }

func (w waiting) Error() string { return w.what() + ": " + oneLine(w.err) }

func (w waiting) what() string {
	if isNotUp(w.err) {
		return "waiting for a server that is not up yet"
	}
	return "the connection was lost: trying again"
}

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
	for _, lost := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.EPIPE, syscall.ECONNRESET, pgconn.ErrConnClosed} {
		if errors.Is(err, lost) {
			return true
		}
	}
	switch postgres.SQLState(err) {
	case "57P01", "57P02", "08000", "08003", "08006":
		return true
	}
	var refused *pgconn.PgError
	return errors.As(err, &refused) && refused.Code == "08P01" &&
		slices.ContainsFunc(poolerLost, func(says string) bool { return strings.Contains(refused.Message, says) })
}

// poolerLost is what PgBouncer says, from 1.16 on, of a server that it has lost or does not
// reach. It has one code for all, also for what no time mends.
var poolerLost = []string{
	"server conn crashed?", "cannot connect to server", "(server_login_retry)", "shutting down",
	"invalid server parameter", // also of a session that ended while PgBouncer prepared it
}
