package deliverer

import (
	"fmt"
	"time"
)

// DeliveryError marks an error of the destination, not of the log or of the checkpoint
// store: a call of [Delivery] has failed with it.
type DeliveryError struct {
	// Offset is that of the first entry of the call.
	Offset int64
	Err    error
}

func (e *DeliveryError) Error() string { return fmt.Sprintf("offset %d: %v", e.Offset, e.Err) }

func (e *DeliveryError) Unwrap() error { return e.Err }

// Reject makes an error of a [Delivery] final: the deliverer does not try again. It
// finds out which entry was rejected, and parks that one or halts.
func Reject(err error) error { return &refusal{err} }

// refusal is an error that [Reject] has made final.
type refusal struct{ err error }

func (r *refusal) Error() string { return r.err.Error() }

// Halt makes an error of a [Delivery] end Run with a [unilog.RejectedError], whether or
// not rejected entries are parked: the destination takes nothing any more.
func Halt(err error) error { return &halting{err} }

// halting is an error that [Halt] has made one of the destination, for good.
type halting struct{ err error }

func (h *halting) Error() string { return h.err.Error() }

// Unavailable says that an error of a [Delivery] is none of the entry's: the destination
// could not be reached, or was busy. It is tried again, and not counted among
// Config.Attempts.
func Unavailable(err error) error { return &unavailability{err} }

type unavailability struct{ err error }

func (u *unavailability) Error() string { return u.err.Error() }

func (u *unavailability) Unwrap() error { return u.err }

// RetryAfter returns an error of a [Delivery] after which the deliverer waits for that
// long, but for an hour at the most, before it tries again.
func RetryAfter(err error, wait time.Duration) error { return &postponement{err, wait} }

type postponement struct {
	err  error
	wait time.Duration
}

func (p *postponement) Error() string { return p.err.Error() }

func (p *postponement) Unwrap() error { return p.err }
