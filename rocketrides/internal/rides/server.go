package rides

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"

	"github.com/rocketrides/unilog/internal/httpserver"
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
	return httpserver.Server{
		Name: "api", Handler: a, WorkTimeout: a.cfg.DBTimeout, ShutdownTimeout: a.cfg.ShutdownTimeout, Log: a.cfg.Log, TLS: a.tls,
	}.Serve(ctx, ln)
}
