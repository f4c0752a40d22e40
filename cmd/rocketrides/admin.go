package main

import (
	"context"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/rides"
)

// adminFlags are for processes that serve nothing but their own health.
type adminFlags struct {
	AdminListen string `env:"ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Answer GET /healthz and /readyz there, such as 127.0.0.1:9090; not at all if not set. The reasons are for operators alone."`
}

// haltedPause is the time between the attempts of a process that has halted.
const haltedPause = 10 * time.Second

// worker is a streamer or a consumer.
type worker interface {
	Run(ctx context.Context) error
	Ready() error
}

// run runs a worker until ctx ends, and tells of its health if it is asked to.
func (f *adminFlags) run(ctx context.Context, log *slog.Logger, w worker) error {
	if f.AdminListen == "" {
		persist(ctx, log, haltedPause, w.Run)
		return nil
	}
	health := &rides.Health{Addr: f.AdminListen, Ready: w.Ready, Log: log}
	ln, err := health.Listen(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return health.Serve(ctx, ln) })
	group.Go(func() error {
		persist(ctx, log, haltedPause, w.Run)
		return nil
	})
	return group.Wait()
}

// persist runs a worker until ctx ends. One that has halted, because a person
// must decide something, is not ended: it says why, once, and tries again after
// each pause, since what is wrong may be mended elsewhere.
func persist(ctx context.Context, log *slog.Logger, pause time.Duration, run func(context.Context) error) {
	said := ""
	for ctx.Err() == nil {
		began := time.Now()
		err := run(ctx)
		if err == nil {
			return
		}
		if time.Since(began) > haltedPause {
			said = "" // it had gone on meanwhile
		}
		if text := oneLine(err); text != said {
			log.Error("halted until this is mended: trying again from time to time", "every", pause, "err", err)
			said = text
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}
