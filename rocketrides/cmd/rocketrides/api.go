package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strconv"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// apiCmd takes bookings.
type apiCmd struct {
	cli.DatabaseFlags `embed:""`
	cli.AdminFlags    `embed:""`
	cli.SafetyFlags   `embed:""`

	Port    uint16 `help:"TCP port to listen on." env:"API_PORT" default:"5005"`
	Listen  string `help:"Address or host name to listen on. The default is for this machine alone; 0.0.0.0 is for every network that it is on." default:"127.0.0.1"`
	TLSCert string `name:"tls-cert" env:"API_TLS_CERT" placeholder:"FILE" help:"Serve HTTPS with this certificate, in PEM form, intermediate ones after it. A new one is served within seconds, without a restart."`
	TLSKey  string `name:"tls-key" env:"API_TLS_KEY" placeholder:"FILE" help:"The key of --tls-cert, in PEM form."`

	TokensFile  string   `name:"tokens-file" env:"API_TOKENS_FILE" placeholder:"FILE" help:"Let in only who has a token. Each line is a caller's name and the SHA-256 of a token; see docs/rocketrides.md. SIGHUP has the file read again."`
	RateLimit   int      `env:"API_RATE_LIMIT" default:"0" placeholder:"N" help:"Requests a second of each caller or, without tokens, of each IP address (IPv6: /64); 0 for any number."`
	MaxRequests int      `env:"API_MAX_REQUESTS" default:"1024" placeholder:"N" help:"Requests at most that are at the database or wait for it, others are refused; 0 for any number. No more than 1024 bookings are ever sent to it at a time."`
	MaxBacklog  int      `env:"API_MAX_BACKLOG" default:"0" placeholder:"N" help:"Refuse bookings while more records wait to be published; 0 for any number."`
	CORSOrigin  []string `name:"cors-origin" env:"API_CORS_ORIGINS" placeholder:"ORIGIN" help:"Let pages of this origin, as https://app.example.com, call the api from a browser. May be given again."`

	Verbose bool `help:"Log every request, not only those that failed." env:"VERBOSE"`
}

// Help follows the flags' own help.
func (apiCmd) Help() string {
	return `Each ride is written in one Postgres transaction with the log record that tells of it.
Rides that wait at the same time share one.

  POST /rides        books a ride; form or JSON, field "distance" in metres
  GET  /rides/{id}   shows it
  GET  /healthz      whether this process is alive
  GET  /readyz       whether its database answers

For example: curl -d distance=123.0 http://127.0.0.1:5005/rides`
}

// Validate refuses half of what TLS needs.
func (c *apiCmd) Validate() error {
	if (c.TLSCert == "") != (c.TLSKey == "") {
		return errors.New("--tls-cert and --tls-key go together: set both, or neither")
	}
	if c.RateLimit < 0 || c.MaxRequests < 0 || c.MaxBacklog < 0 {
		return errors.New("--rate-limit, --max-requests and --max-backlog must be at least 0")
	}
	return nil
}

// ReloadsAtHangup says that SIGHUP does not end it, also without tokens.
func (*apiCmd) ReloadsAtHangup() {}

var _ cli.Reloader = (*apiCmd)(nil)

// Run serves until ctx ends.
func (c *apiCmd) Run(ctx context.Context, log *slog.Logger, p *cli.Program) error {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	traces, flush, err := p.StartTracing(ctx, log, "api")
	if err != nil {
		return err
	}
	defer flush()
	var pool *pgxpool.Pool
	err = c.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		pool, err = c.Connect(ctx, p)
		return err
	})
	if err != nil {
		return err
	}
	defer cli.ClosePool(pool)
	var safety *cli.Safety
	err = c.AwaitServer(ctx, log, func(ctx context.Context) (err error) {
		safety, err = c.Examine(ctx, log, p, doctor.API, pool, c.Schema, nil)
		return err
	})
	if err != nil {
		return err
	}
	// A small heap that fills up fast: a tenth of the processor's time at full
	// load, for some 15 MB of memory.
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	cfg := c.config(ctx, log, pool)
	cfg.Traces, cfg.Safe = traces, safety.Ready
	reg := c.Registry()
	if reg != nil {
		cfg.Metrics = rides.NewAPIMetrics(reg, pool)
	}
	api, err := rides.NewAPI(cfg)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var reloads sync.WaitGroup
	defer reloads.Wait()
	defer stop()
	reloads.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangups:
				api.ReloadTokens()
			}
		}
	})
	return c.Serve(ctx, log, reg, api.Ready, safety.Beside(api.Run))
}

func (c *apiCmd) config(ctx context.Context, log *slog.Logger, pool *pgxpool.Pool) rides.APIConfig {
	return rides.APIConfig{
		DB:      rides.Pool{Pool: pool},
		Schema:  c.Schema,
		Addr:    net.JoinHostPort(c.Listen, strconv.Itoa(int(c.Port))),
		TLSCert: c.TLSCert,
		TLSKey:  c.TLSKey,

		TokensFile:  c.TokensFile,
		RateLimit:   c.RateLimit,
		MaxRequests: c.MaxRequests,
		MaxBacklog:  c.MaxBacklog,
		CORSOrigins: c.CORSOrigin,

		DBTimeout: apiTimeout, ShutdownTimeout: apiTimeout,

		Verbose: c.Verbose || log.Enabled(ctx, slog.LevelDebug),
		Log:     log,
	}
}
