package cli

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/switchlog"
)

// SafetyFlags are for processes that look at their servers when they start, and while
// they run.
type SafetyFlags struct {
	AllowUnsafe bool `env:"ALLOW_UNSAFE" help:"Start though a server's settings are unsafe, and only warn; see ${program} doctor."`
}

// settingsPause is the time between looks at settings that may change meanwhile, and
// settingsTimeout bounds one.
const (
	settingsPause   = 15 * time.Second
	settingsTimeout = 5 * time.Second
)

// Safety is what a process knows of its servers' settings. It is safe for concurrent use.
type Safety struct {
	process doctor.Process
	allowed bool
	log     *slog.Logger
	pause   time.Duration
	look    func(context.Context) ([]doctor.Finding, error)

	mu    sync.Mutex
	known []doctor.Finding // that are not ok
}

// Examine refuses servers that are unsafe for a process. Advice is logged. What it
// returns looks at them again while the process runs.
func (f *SafetyFlags) Examine(ctx context.Context, log *slog.Logger, p *Program, process doctor.Process, db *pgxpool.Pool, schema unilog.Schema, stream switchlog.Engine) (*Safety, error) {
	bounded, cancel := context.WithTimeout(ctx, p.connectTimeout())
	defer cancel()
	all, err := p.findings(bounded, db, schema, stream)
	if err != nil {
		return nil, err
	}
	s := &Safety{
		process: process, allowed: f.AllowUnsafe, log: log, pause: settingsPause,
		look: func(ctx context.Context) ([]doctor.Finding, error) {
			return doctor.Settings(ctx, db, schema, ServerOf(stream), p.Name, p.Tables...)
		},
	}
	s.known = s.concerning(all)
	if lines := s.unsafe(); len(lines) > 0 && !s.allowed {
		return nil, errors.New("unsafe: " + strings.Join(lines, "; ") + "; or start with --allow-unsafe (ALLOW_UNSAFE=true)")
	}
	for _, f := range s.known {
		s.say(f, "")
	}
	return s, nil
}

// concerning are the findings that matter to the process and are not ok.
func (s *Safety) concerning(all []doctor.Finding) []doctor.Finding {
	return slices.DeleteFunc(doctor.Concerning(s.process, all), func(f doctor.Finding) bool { return f.Level == doctor.OK })
}

// unsafe are the lines about what is.
func (s *Safety) unsafe() (lines []string) {
	for _, f := range unsafeOnes(s.known) {
		lines = append(lines, f.String())
	}
	return lines
}

func (s *Safety) say(f doctor.Finding, since string) {
	if f.Level == doctor.Unsafe {
		s.log.Warn("unsafe" + since + ": " + f.String())
	} else {
		s.log.Info("advice" + since + ": " + f.String())
	}
}

// Ready returns what has become unsafe, unless that is allowed.
func (s *Safety) Ready() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := s.unsafe()
	if len(lines) == 0 || s.allowed {
		return nil
	}
	return errors.New("unsafe: " + strings.Join(lines, "; "))
}

// Guard returns a check that fails if what has become unsafe, or else as ready does.
func (s *Safety) Guard(ready func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := s.Ready(); err != nil {
			return err
		}
		return ready(ctx)
	}
}

// Beside runs what looks at the settings beside run, until that ends.
func (s *Safety) Beside(run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		watching, stop := context.WithCancel(ctx)
		var watch sync.WaitGroup
		watch.Go(func() { s.watch(watching) })
		defer watch.Wait()
		defer stop()
		return run(ctx)
	}
}

func (s *Safety) watch(ctx context.Context) {
	tick := time.NewTicker(s.pause)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(ctx, settingsTimeout)
		found, err := s.look(bounded)
		cancel()
		s.note(found, err)
	}
}

// note says what is new. Of a server that gave no answer nothing new is known.
func (s *Safety) note(found []doctor.Finding, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.known
	s.known = s.concerning(found)
	for _, f := range s.known {
		if !slices.ContainsFunc(before, func(old doctor.Finding) bool { return old.Found == f.Found }) {
			s.say(f, " since this process has started")
		}
	}
	for _, old := range before {
		i := slices.IndexFunc(found, func(f doctor.Finding) bool { return f.Check == old.Check })
		switch {
		case i >= 0 && found[i].Level == doctor.OK:
			s.log.Info("mended: " + found[i].Found)
		case i < 0 && err != nil:
			s.known = append(s.known, old)
		}
	}
	if err != nil {
		s.log.Debug("cannot see whether the servers are safe", "err", err)
	}
}
