package cli

import (
	"context"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/httpserver"
	"github.com/rocketrides/unilog/internal/version"
)

// AdminFlags are for processes that tell operators how they do.
type AdminFlags struct {
	AdminListen string `env:"ADMIN_LISTEN" placeholder:"HOST:PORT" help:"Answer GET /healthz, /readyz, /metrics and /debug/pprof/ there, such as 127.0.0.1:9090; not at all if not set. For operators alone."`
}

func (*AdminFlags) runsUntilTold() bool { return true }

// HaltedPause is the time between the attempts of a process that has halted.
const HaltedPause = 10 * time.Second

// Registry returns one for the metrics of this process, or nil if nobody can ask
// for them.
func (f *AdminFlags) Registry() *prometheus.Registry {
	if f.AdminListen == "" {
		return nil
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "unilog_build_info", Help: "1, with the version of this program and of the Go that built it.",
		ConstLabels: prometheus.Labels{"version": version.Number(), "goversion": runtime.Version()},
	}).Set(1)
	return reg
}

// Serve runs a process until it ends, and tells of its health, and of what reg
// counts, if it is asked to.
func (f *AdminFlags) Serve(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, ready, run func(context.Context) error) error {
	if f.AdminListen == "" {
		return run(ctx)
	}
	health := &httpserver.Health{Addr: f.AdminListen, Ready: ready, Metrics: reg, Log: log}
	ln, err := health.Listen(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	ctx, over := context.WithCancel(ctx)
	group.Go(func() error { return health.Serve(ctx, ln) })
	group.Go(func() error {
		defer over()
		return run(ctx)
	})
	return group.Wait()
}

// Worker is a streamer, a consumer or a deliverer.
type Worker interface {
	Run(ctx context.Context) error
	Ready() error
}

// Work runs one until it ends, which is not ready while its servers are unsafe.
func (f *AdminFlags) Work(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, safety *Safety, w Worker) error {
	ready := safety.Guard(func(context.Context) error { return w.Ready() })
	return f.Serve(ctx, log, reg, ready, safety.Beside(w.Run))
}

// RunWorker is Work for one whose Run ends when a person must decide something: it stays
// all the same, says why, and tries again from time to time.
func (f *AdminFlags) RunWorker(ctx context.Context, log *slog.Logger, reg *prometheus.Registry, safety *Safety, w Worker) error {
	return f.Work(ctx, log, reg, safety, persistent{w, log})
}

type persistent struct {
	Worker
	log *slog.Logger
}

func (w persistent) Run(ctx context.Context) error {
	persist(ctx, w.log, HaltedPause, w.Worker.Run)
	return nil
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
		if time.Since(began) > HaltedPause {
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
