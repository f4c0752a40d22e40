package loop

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Grace is how long code of somebody else's, such as a handler, may take to return when
// its time is over. With a look each half second it is less than 5 s.
const Grace = 3 * time.Second

// last is how long it may take to return when who has called it ends.
const last = time.Second

// ErrExit is the error of a call that has ended its goroutine.
var ErrExit = errors.New("unilog: the handler has called runtime.Goexit")

// Hang is a call of somebody else's code that has not returned in time. The zero value
// is none. It is safe for concurrent use.
type Hang struct {
	mu       sync.Mutex
	returned <-chan struct{}
	err      error
}

// Call runs f, in a goroutine of its own, and returns what it does. If it has not
// returned within that time, which is its own and a grace, or a second after
// ctx has ended, Call leaves it alone and returns hung. Nothing that f uses may then be
// used by anybody else until it has returned.
func (h *Hang) Call(ctx context.Context, within time.Duration, hung error, f func() error) error {
	farewell, cancel := Outlive(ctx, last)
	defer cancel()
	over := time.NewTimer(within)
	defer over.Stop()
	answer := ErrExit
	returned := make(chan struct{})
	go func() {
		defer close(returned)
		answer = f()
	}()
	select {
	case <-returned:
		return answer
	case <-over.C:
	case <-farewell.Done():
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.returned, h.err = returned, hung
	return hung
}

// Err returns what Call did, as long as f has not returned, and nil from then on.
func (h *Hang) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.returned:
		h.returned, h.err = nil, nil
	default:
	}
	return h.err
}

// Wait waits until nothing hangs, or ctx ends.
func (h *Hang) Wait(ctx context.Context) {
	h.mu.Lock()
	returned := h.returned
	h.mu.Unlock()
	if returned == nil {
		return
	}
	select {
	case <-returned:
	case <-ctx.Done():
	}
}
