package up

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"
)

// state is what runs, as JSON.
type state struct {
	Processes []processState `json:"processes"`
	Settings
	RedisCut bool `json:"redis_cut"`
}

type processState struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	State    string `json:"state"` // running, frozen or restarting
	Pid      int    `json:"pid"`   // 0 while it is restarting
	Restarts int    `json:"restarts"`
	Since    int64  `json:"since"` // Unix milliseconds
}

func (t *task) state() processState {
	t.mu.Lock()
	defer t.mu.Unlock()
	p := processState{Name: t.name, Kind: t.kind, State: "running", Restarts: max(t.starts-1, 0), Since: t.since.UnixMilli()}
	switch {
	case t.current == nil:
		p.State = "restarting"
		return p
	case t.frozen:
		p.State = "frozen"
	}
	p.Pid = t.current.Pid()
	return p
}

// kill kills it, to be started again, and waits until it has died.
func (t *task) kill(ctx context.Context) error {
	t.mu.Lock()
	r := t.current
	if r == nil {
		t.mu.Unlock()
		return fmt.Errorf("%s does not run just now", t.name)
	}
	t.doomed = true
	err := r.Signal(syscall.SIGKILL)
	t.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-r.Done():
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (t *task) freeze() error { return t.setFrozen(true, syscall.SIGSTOP, "frozen", "is frozen") }

func (t *task) thaw() error { return t.setFrozen(false, syscall.SIGCONT, "thawed", "is thawed") }

func (t *task) setFrozen(on bool, sig syscall.Signal, kind, text string) error {
	t.mu.Lock()
	var err error
	switch {
	case t.current == nil:
		err = fmt.Errorf("%s does not run just now", t.name)
	case t.frozen && on:
		err = fmt.Errorf("%s is frozen already", t.name)
	case !t.frozen && !on:
		err = fmt.Errorf("%s is not frozen", t.name)
	default:
		err = t.current.Signal(sig)
	}
	if err == nil {
		t.frozen, t.since = on, time.Now()
	}
	t.mu.Unlock()
	if err == nil {
		t.say("%s %s", t.name, text)
		t.report(kind, t.name+" "+text)
	}
	return err
}

// tasks are all that run, the servers last.
func (s *supervisor) tasks() []*task {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Concat(append(slices.Clone(s.groups), s.servers)...)
}

func (s *supervisor) state() state {
	st := state{Processes: []processState{}}
	for _, t := range s.tasks() {
		st.Processes = append(st.Processes, t.state())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st.Settings, st.RedisCut = s.settings, s.cut != nil
	return st
}

// heard is told what processes log.
func (s *supervisor) heard(source string, r *record) {
	s.summary.heard(r.msg)
	s.events.logged(source, r)
}

// happened is told what becomes of what runs.
func (s *supervisor) happened(source, kind, text string) {
	s.happenedSince(time.Now(), source, kind, text)
}

func (s *supervisor) happenedSince(began time.Time, source, kind, text string) {
	s.summary.happened(kind)
	s.events.happened(began, source, kind, text)
}

// tell says what an action has done.
func (s *supervisor) tell(source, kind, text string) {
	s.out.say("%s", text)
	s.happened(source, kind, text)
}

// openControl serves the control socket and writes the settings, with Controls.
func (s *supervisor) openControl(ctx context.Context) error {
	if s.cfg.Controls == nil {
		return nil
	}
	s.settings = s.cfg.Controls.Settings
	if err := s.dir.writeSettings(s.settings); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	s.actions, s.cancelActions = context.WithCancel(context.Background())
	var err error
	s.control, err = startControl(ctx, s.dir, s.events, s.act)
	return err
}

func (s *supervisor) closeControl() {
	if s.control == nil {
		return
	}
	s.cancelActions()
	s.events.close()
	s.control.close()
}
