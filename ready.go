package unilog

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"sync"
)

// errNotLooked is why a process that has only begun is not ready.
var errNotLooked = errors.New("unilog: it has not looked yet")

// readiness is how a process's last attempt to do its work ended. It is safe
// for concurrent use.
type readiness struct {
	mu     sync.Mutex
	looked bool
	err    error
}

// note takes the end of an attempt.
func (r *readiness) note(ctx context.Context, err error) {
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled): // told to stop, which says nothing
		return
	case errors.Is(err, ErrStandby), errors.Is(err, ErrSimulated):
		err = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked, r.err = true, err
}

// forget is for work that another process does now.
func (r *readiness) forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked, r.err = false, nil
}

func (r *readiness) ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.looked:
		return errNotLooked
	case r.err != nil:
		return oneLineError{r.err}
	}
	return nil
}

// oneLineError says what an error says in one line.
type oneLineError struct{ error }

func (e oneLineError) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

func (e oneLineError) Unwrap() error { return e.error }

// Ready returns nil if the last batch, or look for one, went well in each
// partition that this process reads, or if others read them all. Else it says
// in one line why this consumer cannot read or apply. A call that gets no
// answer is noticed when its time is over, a handler's after HandlerTimeout.
// Ready is safe for concurrent use with everything else.
func (c *Consumer) Ready() error {
	if err := c.readiness.ready(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var notReady error
	for _, p := range c.working {
		err := p.readiness.ready()
		if err != nil && !errors.Is(err, errNotLooked) {
			return err
		}
		notReady = cmp.Or(notReady, err)
	}
	return notReady
}
