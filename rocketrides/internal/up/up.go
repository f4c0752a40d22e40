// Package up runs a whole system as one command: private servers where none
// are given, migrations, and processes, which it restarts when they die and
// stops in order. Nothing it started outlives it, even if it is killed.
package up

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/unilog/internal/private"
)

// self names the supervisor in its own output.
const self = "up"

// Config says what to run.
type Config struct {
	// DataDir keeps the private servers' state between runs. Only one
	// supervisor at a time may use it. Fresh removes that state first.
	DataDir string
	Fresh   bool
	// DatabaseURL and RedisURL are servers to use; "" is a private one.
	DatabaseURL, RedisURL string
	// NoRedis says that the log is elsewhere, so that no Redis is started.
	NoRedis bool
	// Port is where the api will listen, DashboardPort where the dashboard will, 0
	// if there is none. They must be free.
	Port, DashboardPort int
	// Vars are further variables, as KEY=value, of the processes' environment
	// and of the file env in DataDir.
	Vars []string
	// Prepare prepares the servers, before any process starts. It migrates the
	// database.
	Prepare func(ctx context.Context, databaseURL, redisURL string) error
	// Writers bring work in, Readers carry it on. The groups stop in this
	// order, the writers' first, and start in reverse; the processes of one
	// group stop together. Names are unique.
	Writers, Readers [][]Process
	// For, if positive, ends the run after that time: the writers stop, Audit
	// runs, with the names of the consumers as further arguments, and its
	// failure is Run's.
	For   time.Duration
	Audit Process
	// Controls, if set, make it a run that can be acted upon.
	Controls *Controls
	// During, if set, is called when all processes have been started. Its return
	// ends the run, and its error is Run's. For and Audit are not for it.
	During func(ctx context.Context, system *System) error

	Output io.Writer
	Color  bool
	// Text, if set, is how lines look that processes log as JSON, as log/slog
	// does; without it they are shown as they are. Those below Level are not
	// shown.
	Text  func(io.Writer) slog.Handler
	Level slog.Level

	// For tests only: over ends For, stopFor is how long a stop may take.
	over    <-chan struct{}
	stopFor time.Duration
}

// supervisor is one run.
type supervisor struct {
	cfg     Config
	out     *output
	dir     *dataDir
	env     []string
	control *control // nil without Controls
	events  *events
	summary summary

	mu       sync.Mutex
	groups   [][]*task // running, in the order in which they stop
	servers  []*task
	settings Settings
	cut      *private.Server // the Redis that is cut off

	acting        sync.Mutex      // held by an action
	actions       context.Context // ends when there are to be no more
	cancelActions context.CancelFunc
	work          sync.WaitGroup // of actions that last
}

// Run runs the system until ctx ends or cfg.For has passed, and returns when
// everything has stopped, at most 10 s later. The end of ctx is no error,
// unless it cuts the audit short. Errors are one line each and say what to do.
func Run(ctx context.Context, cfg Config) error {
	dir, err := openDataDir(ctx, cfg.DataDir)
	if err != nil {
		return err
	}
	defer dir.close()
	if err := check(ctx, cfg, dir); err != nil {
		return err
	}
	if cfg.Fresh {
		if err := dir.clear(ctx); err != nil {
			return err
		}
	}
	s := &supervisor{cfg: cfg, dir: dir, out: newOutput(cfg.Output, cfg.Color, names(cfg))}
	s.events = newEvents(s.state)
	s.out.text, s.out.level, s.out.heard = cfg.Text, cfg.Level, s.heard
	if err := s.openControl(ctx); err != nil {
		return err
	}
	defer s.closeControl()
	err = s.run(ctx)
	interrupted := ctx.Err() != nil
	s.stop()
	s.sumUp()
	if cfg.During != nil {
		return err
	}
	if interrupted && cfg.For <= 0 {
		return nil
	}
	if interrupted {
		return errors.New("interrupted before the audit had ended")
	}
	return err
}

// names lists all that will print, for the width of the prefixes.
func names(cfg Config) []string {
	names := []string{self}
	for _, groups := range [][][]Process{cfg.Writers, cfg.Readers, {{cfg.Audit}}} {
		for _, group := range groups {
			for _, p := range group {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

func (s *supervisor) run(ctx context.Context) error {
	urls, err := s.startServers(ctx)
	if err != nil {
		return err
	}
	vars := append([]string{"DATABASE_URL=" + urls.database, "REDIS_URL=" + urls.redis}, s.cfg.Vars...)
	s.env = append(os.Environ(), vars...)
	if s.control != nil {
		s.env = append(s.env, SettingsVariable+"="+s.dir.settings())
	}
	if s.cfg.Color {
		s.env = append(s.env, "FORCE_COLOR=1")
	}
	if err := s.cfg.Prepare(ctx, urls.database, urls.redis); err != nil {
		return fmt.Errorf("prepare the servers: %w", err)
	}
	path, err := s.dir.writeEnv(vars)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	s.announce(urls, path)
	s.startProcesses()
	if s.cfg.During != nil {
		return s.cfg.During(ctx, &System{s})
	}
	if s.cfg.For <= 0 {
		<-ctx.Done()
		return nil
	}
	select {
	case <-time.After(s.cfg.For):
	case <-s.cfg.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return s.audit(ctx)
}

func (s *supervisor) announce(urls urls, env string) {
	if len(s.cfg.Writers) > 0 {
		if s.cfg.DashboardPort > 0 {
			s.out.say("dashboard: http://127.0.0.1:%d", s.cfg.DashboardPort)
		}
		api := fmt.Sprintf("http://127.0.0.1:%d", s.cfg.Port)
		s.out.say("api:       %s", api)
		s.out.say("try:       curl -d distance=123 %s/rides", api)
	}
	s.out.say("postgres:  %s", urls.attachDatabase)
	if urls.redis != "" {
		s.out.say("redis:     %s", urls.attachRedis)
	}
	s.out.say("look:      (set -a; . %s; %s status)", quote(env), quote(os.Args[0]))
}

func (s *supervisor) startProcesses() {
	s.acting.Lock() // nothing can be done to what has yet to start
	defer s.acting.Unlock()
	all := append(append([][]Process{}, s.cfg.Writers...), s.cfg.Readers...)
	groups := make([][]*task, len(all))
	for i, group := range all {
		for _, p := range group {
			groups[i] = append(groups[i], s.newTask(p))
		}
	}
	s.mu.Lock()
	s.groups = groups
	s.mu.Unlock()
	for _, group := range slices.Backward(groups) {
		for _, t := range group {
			t.keep(nil)
		}
	}
}

func (s *supervisor) newTask(p Process) *task {
	t := &task{name: p.Name, kind: p.Kind, say: s.out.say}
	t.start = func(context.Context) (runner, error) {
		env := s.env
		if p.Control && s.control != nil {
			env = append(slices.Clone(env), ControlVariable+"="+s.control.path)
		}
		return startProcess(p, env, s.out)
	}
	t.report = func(kind, text string) { s.happened(p.Name, kind, text) }
	return t
}

func (s *supervisor) stopWriters() {
	n := len(s.cfg.Writers)
	s.stopGroups(s.groups[:n], func() {})
	s.mu.Lock()
	s.groups = s.groups[n:]
	s.mu.Unlock()
}

// audit stops the writers and runs the audit, which waits for the readers.
func (s *supervisor) audit(ctx context.Context) error {
	s.endActions()
	s.out.say("%v are over: stopping %s, then the audit", s.cfg.For, list(s.cfg.Writers))
	s.stopWriters()
	audit := s.cfg.Audit
	audit.Args = append(slices.Clone(audit.Args), s.consumers()...) // others may be left from an earlier run
	p, err := startProcess(audit, s.env, s.out)
	if err != nil {
		return err
	}
	p.show()
	select {
	case <-p.Done():
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.Stop(ctx))
	}
	if err := p.Err(); err != nil {
		s.summary.audited("does not hold, or could not look")
		return fmt.Errorf("the audit does not hold, or could not look: see what %s says above (%w)", s.cfg.Audit.Name, err)
	}
	s.summary.audited("holds")
	s.out.say("the audit holds")
	return nil
}
