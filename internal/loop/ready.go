package loop

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/rocketrides/unilog"
)

// ErrNotLooked is why a process that has only begun is not ready.
var ErrNotLooked = errors.New("unilog: it has not looked yet")

// Readiness keeps how the last attempt of a process to do its work ended. It is safe
// for concurrent use.
type Readiness struct {
	mu     sync.Mutex
	looked bool
	err    error
}

// Note keeps the end of an attempt, which ctx bounded.
func (r *Readiness) Note(ctx context.Context, err error) {
	switch {
	case err != nil && errors.Is(ctx.Err(), context.Canceled): // told to stop, which says nothing
		return
	case errors.Is(err, unilog.ErrStandby), errors.Is(err, unilog.ErrSimulated):
		err = nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked, r.err = true, err
}

// Forget makes it as new: another process does the work now.
func (r *Readiness) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.looked, r.err = false, nil
}

// Ready returns nil if the last attempt went well, or else why not, in one line.
func (r *Readiness) Ready() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.looked:
		return ErrNotLooked
	case r.err != nil:
		return OneLine(r.err)
	}
	return nil
}

// OneLine returns an error whose text is that of err without line breaks.
func OneLine(err error) error { return oneLineError{err} }

type oneLineError struct{ error }

func (e oneLineError) Error() string { return strings.Join(strings.Fields(e.error.Error()), " ") }

func (e oneLineError) Unwrap() error { return e.error }

// noteBytes bounds a note.
const noteBytes = 1000

// Note is what an error says, in one line that is not too long, as Postgres can store it.
func Note(err error) string {
	text := OneLine(err).Error()
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), noteBytes)], "\uFFFD"), "\x00", "\uFFFD")
}
