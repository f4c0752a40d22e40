// Package dashboard shows a database with a unilog in it live: the flow of the
// records, the faults, and the audit, if there is one, in browsers or, by [Watch], on
// a terminal.
//
//	GET /         the page
//	GET /events   server-sent events: hello first, then sample, audit, note and system
//	POST /actions what the supervisor is to do, if one runs this and may be asked
//	GET /healthz  200 as long as the process serves
//
// However many look, the servers are asked at one pace: Postgres by one statement
// for each sample, four times a second, or once a second if nobody looks, and by
// the audit once a second, or less often if it takes long.
package dashboard

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// Config says what to show. DB and Log are required.
type Config struct {
	DB  *pgxpool.Pool
	Log unilog.Log
	// Engine names what holds the log now, which may move: Redis, if nil.
	Engine func() string
	// Schema is the one that the log's tables are in: unilog.DefaultSchema, if empty.
	Schema unilog.Schema
	// Addr is where to listen, as host:port.
	Addr string
	// Audit is what is to be compared all the time; without it, the page shows the
	// flow alone.
	Audit *Audit
	// Words are the application's, and Program the name of the command that shows
	// this: unilog, if empty.
	Words   Words
	Program string
	// Control is the socket of a supervisor, which tells of the processes and takes
	// actions. Without it, nothing is known of processes, and there are no buttons.
	Control string
	// ReadOnly refuses actions.
	ReadOnly bool
	// Logger gets what happens: default slog.Default().
	Logger *slog.Logger
}

// Dashboard serves a page that shows the system.
type Dashboard struct {
	cfg     Config
	words   phrases
	hub     *hub
	token   string
	control *control
	heard   chan heard
	// callFor, auditFor and shutdownFor are the timeouts of their names, but for tests.
	callFor, auditFor, shutdownFor time.Duration
}

// What clients may take.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 10 * time.Second
	keepAlive     = 60 * time.Second
	// writeTimeout is for all but streams, and more than an action takes.
	writeTimeout = readTimeout + actionTimeout + sendTimeout
	// shutdownTimeout bounds the wait for requests in hand.
	shutdownTimeout = time.Second
)

// New returns a dashboard. [Dashboard.Run] starts it.
func New(cfg Config) *Dashboard {
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	d := &Dashboard{cfg: cfg, words: cfg.phrases(), hub: newHub(), token: rand.Text(), heard: make(chan heard, 64), callFor: callTimeout, auditFor: auditTimeout, shutdownFor: shutdownTimeout}
	if cfg.Control != "" {
		d.control = newControl(cfg.Control)
	}
	return d
}

// acts says whether viewers may ask for actions.
func (d *Dashboard) acts() bool { return d.control != nil && !d.cfg.ReadOnly }

// Run listens and serves until ctx ends.
func (d *Dashboard) Run(ctx context.Context) error {
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", d.cfg.Addr)
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("dashboard: %s is in use: stop the process that listens there, or choose another port with --port or DASHBOARD_PORT", d.cfg.Addr)
	case err != nil:
		return fmt.Errorf("dashboard: listen on %s: choose another address with --listen and --port: %w", d.cfg.Addr, errors.Unwrap(err))
	}
	return d.Serve(ctx, ln)
}

// Serve takes requests from ln until ctx ends. Then it ends all streams, and
// returns when nothing of it runs any more, within two seconds.
func (d *Dashboard) Serve(ctx context.Context, ln net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { d.watch(ctx); return nil })
	if d.control != nil {
		group.Go(func() error { d.follow(ctx); return nil })
	}
	group.Go(func() error { return d.serve(ctx, ln) })
	return group.Wait()
}

func (d *Dashboard) serve(ctx context.Context, ln net.Listener) error {
	requests, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer cut()
	var inHand sync.RWMutex
	over := false
	handler := d.handler()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			inHand.RLock()
			defer inHand.RUnlock()
			if !over {
				handler.ServeHTTP(w, r)
			}
		}),
		BaseContext:       func(net.Listener) context.Context { return requests },
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       keepAlive,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(d.cfg.Logger.Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(ln) }()
	d.cfg.Logger.Info("dashboard listens", "url", "http://"+ln.Addr().String())
	var err error
	select {
	case err = <-served:
		err = fmt.Errorf("dashboard: serve: %w", err)
	case <-ctx.Done():
	}
	d.hub.end()
	bound, cancel := context.WithTimeout(requests, d.shutdownFor)
	defer cancel()
	_ = srv.Shutdown(bound)
	cut()
	_ = srv.Close()
	inHand.Lock()
	over = true
	inHand.Unlock()
	return err
}
