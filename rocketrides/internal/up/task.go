package up

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

const (
	minDelay = 100 * time.Millisecond
	maxDelay = 5 * time.Second
	// steady is how long something has to live for its next death to count
	// as the first.
	steady = 3 * time.Second
)

// runner is something that runs: a process, or a private server.
type runner interface {
	// Done is closed when it has ended.
	Done() <-chan struct{}
	// Err says how it ended.
	Err() error
	// Stop ends it in order, or by force when ctx ends. It has ended on return.
	Stop(ctx context.Context) error
	// Signal sends it a signal. One that has ended is no error.
	Signal(sig os.Signal) error
	// Pid is its process id.
	Pid() int
}

// task keeps one runner running, restarting it with backoff when it dies. keep
// and then stop are called once each, from one goroutine.
type task struct {
	name, kind string
	start      func(context.Context) (runner, error)
	say        func(format string, args ...any)
	// report tells of a change of state, when it has happened.
	report func(kind, text string)

	cancel context.CancelFunc
	ended  chan struct{}

	mu      sync.Mutex
	current runner // nil while it does not run; only the loop changes it
	starts  int
	since   time.Time // of the state that it is in
	doomed  bool      // killed by an action
	frozen  bool
}

// keep starts supervising: first, or what start returns if that is nil.
func (t *task) keep(first runner) {
	ctx, cancel := context.WithCancel(context.Background())
	t.cancel, t.ended = cancel, make(chan struct{})
	t.set(first)
	if first != nil {
		t.tellStart()
	}
	go t.loop(ctx)
}

// stop ends the supervision and then what runs. Its error tells that this took
// force.
func (t *task) stop(ctx context.Context) error {
	t.cancel()
	<-t.ended
	if t.current == nil {
		return nil
	}
	_ = t.thaw() // or it would not hear that it is to stop
	return t.current.Stop(ctx)
}

// signal sends a signal to what runs.
func (t *task) signal(sig os.Signal) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.current == nil {
		return fmt.Errorf("%s does not run just now", t.name)
	}
	return t.current.Signal(sig)
}

func (t *task) set(r runner) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current, t.since = r, time.Now()
	if r != nil {
		t.starts++
	}
}

func (t *task) loop(ctx context.Context) {
	defer close(t.ended)
	delay := minDelay
	for {
		began := time.Now()
		err := t.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) >= steady {
			delay = minDelay
		}
		t.mourn(err, delay)
		if pause(ctx, delay) != nil {
			return
		}
		delay = min(2*delay, maxDelay)
	}
}

// once runs until the end of the runner, and says how it ended, or of ctx.
func (t *task) once(ctx context.Context) (err error) {
	if t.current == nil {
		r, err := t.start(ctx)
		if err != nil {
			return err
		}
		t.set(r)
		t.tellStart()
		if p, isProcess := r.(*process); isProcess {
			p.show()
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case <-t.current.Done():
	}
	err = t.current.Err()
	t.set(nil)
	if err == nil {
		err = errors.New("exit status 0")
	}
	return err
}

func (t *task) tellStart() {
	t.report("started", fmt.Sprintf("%s runs: process %d", t.name, t.current.Pid()))
}

// mourn says how it died.
func (t *task) mourn(err error, delay time.Duration) {
	t.mu.Lock()
	kind, how := "died", fmt.Sprintf("died (%v)", err)
	if t.doomed {
		kind, how = "killed", "was killed on purpose"
	}
	t.doomed, t.frozen = false, false
	t.mu.Unlock()
	t.say("%s %s, starting it again in %v", t.name, how, delay)
	t.report(kind, fmt.Sprintf("%s %s, and starts again in %v", t.name, how, delay))
}

// pause waits for d, or returns ctx's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
