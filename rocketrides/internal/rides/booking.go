package rides

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
)

const (
	// maxGroup bounds the rides of one statement.
	maxGroup = 256
	// groupPatience is what a group may take until another one is booked
	// meanwhile. Two all the time would only be smaller ones: with two workers,
	// 64 connections booked 12 % fewer rides, with three 19 %.
	groupPatience = 100 * time.Millisecond
	// maxWorkers bounds those that are at work while others are stuck.
	maxWorkers = 4
	// maxFarewell bounds a booker's farewell.
	maxFarewell = time.Second
)

// booker books the rides that wait together with one statement. It has workers
// only while there is something to do. It is safe for concurrent use.
type booker struct {
	db     Database
	schema unilog.Schema
	// timeout is how long a booking may take, from its arrival to its verdict.
	timeout time.Duration
	// farewell is what the server gets to say how a statement ended that it was told
	// to give up.
	farewell time.Duration
	// patience is [groupPatience], but in tests.
	patience time.Duration
	// within bounds a group by the time at which it must have its verdict.
	within  func(end time.Time) (context.Context, context.CancelFunc)
	metrics *APIMetrics

	mu       sync.Mutex
	waiting  []*booking // the longest first
	inFlight map[keyHash]bool
	workers  int
	stuck    int // workers whose group takes longer than patience
	running  sync.WaitGroup
}

// errShed: those who wait already are as many as can hope for their turn.
var errShed = errors.New("rides: too many bookings wait")

// booking is a ride that somebody waits for.
type booking struct {
	order
	arrived time.Time
	group   *group // nil until its turn
	verdict chan verdict
}

// group is what one worker books at a time.
type group struct {
	bookings []*booking
	present  int                // those who still wait for it
	cancel   context.CancelFunc // calls it off
	stuck    bool
	done     bool
}

// book books a ride, and returns when it is committed, as [CreateRides] does. It
// returns early if ctx ends; then the ride is not booked unless its turn has come.
//
// A request with a claim is booked once. If it was before, its ride is returned;
// if that is not decided yet, [errInFlight]; if the claim's key was another
// request's, [errKeyReused]. With too many others before it, it is [errShed].
func (b *booker) book(ctx context.Context, o order) (Ride, error) {
	if err := ctx.Err(); err != nil {
		return Ride{}, err
	}
	k := &booking{order: o, arrived: time.Now(), verdict: make(chan verdict, 1)}
	if err := b.admit(k); err != nil {
		return Ride{}, err
	}
	// Whoever waits until then would have too little time left for the statement,
	// and would take it from the others of its group.
	tooLate := time.NewTimer(b.timeout - 2*b.farewell)
	defer tooLate.Stop()
	for {
		select {
		case v := <-k.verdict:
			return v.ride, v.err
		case <-ctx.Done():
			b.leave(k)
			return Ride{}, ctx.Err()
		case <-tooLate.C:
			if b.withdraw(k) {
				return Ride{}, fmt.Errorf("wait for other bookings: %w", context.DeadlineExceeded)
			}
		}
	}
}

// admit lines a booking up, unless another one with its key has no verdict yet,
// or there is no hope for it. While all workers are stuck nobody knows when one
// comes free; it takes one group, and those behind that would have to wait for
// another turn, of a database that is in trouble. As long as a worker is not stuck,
// a group's turn comes every [groupPatience], so that the timeout is enough for
// thousands of bookings.
func (b *booker) admit(k *booking) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.claim != nil && b.inFlight[k.claim.key] {
		return errInFlight
	}
	if b.stuck == maxWorkers && len(b.waiting) >= maxGroup {
		return errShed
	}
	if k.claim != nil {
		if b.inFlight == nil {
			b.inFlight = map[keyHash]bool{}
		}
		b.inFlight[k.claim.key] = true
	}
	b.waiting = append(b.waiting, k)
	b.hire()
	return nil
}

// withdraw takes back a booking whose turn has not come.
func (b *booker) withdraw(k *booking) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	i := slices.Index(b.waiting, k)
	if i >= 0 {
		b.waiting = slices.Delete(b.waiting, i, i+1)
		b.release(k)
	}
	return i >= 0
}

// release lets the key of a booking come again. b.mu is held.
func (b *booker) release(k *booking) {
	if k.claim != nil {
		delete(b.inFlight, k.claim.key)
	}
}

// leave is for those who wait no longer. A group is called off by the last one.
func (b *booker) leave(k *booking) {
	if b.withdraw(k) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if k.group.present--; k.group.present == 0 {
		k.group.cancel()
	}
}

// hire starts a worker if nobody but stuck ones is at work. b.mu is held.
func (b *booker) hire() {
	if len(b.waiting) > 0 && b.workers == b.stuck && b.workers < maxWorkers {
		b.workers++
		b.running.Go(b.work)
	}
}

// wait returns when no worker is left; there must be nobody who waits.
func (b *booker) wait() { b.running.Wait() }

func (b *booker) work() {
	for {
		ctx, g := b.next()
		if g == nil {
			return
		}
		overdue := time.AfterFunc(b.patience, func() { b.hireMeanwhile(g) })
		b.serve(ctx, g)
		overdue.Stop()
		g.cancel()
		b.mu.Lock()
		g.done = true
		if g.stuck {
			b.stuck--
		}
		b.mu.Unlock()
	}
}

// next takes what waits. A worker that was stuck, and for which another one does
// the work now, gets nothing and ends.
func (b *booker) next() (context.Context, *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 || b.workers-b.stuck > 1 {
		b.workers--
		return nil, nil
	}
	n := min(len(b.waiting), maxGroup)
	g := &group{bookings: slices.Clone(b.waiting[:n]), present: n}
	b.waiting = slices.Delete(b.waiting, 0, n)
	for _, k := range g.bookings {
		k.group = g
	}
	ctx, cancel := b.within(g.bookings[0].arrived.Add(b.timeout - b.farewell))
	g.cancel = cancel
	return ctx, g
}

// hireMeanwhile lets another worker do what a stuck one does not get around to.
func (b *booker) hireMeanwhile(g *group) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !g.done {
		g.stuck = true
		b.stuck++
		b.hire()
	}
}

// serve gives every member of the group a verdict. Where the server refuses the
// whole group for what is in it, each gets its own.
func (b *booker) serve(ctx context.Context, g *group) {
	defer func() {
		if v := recover(); v != nil {
			b.settle(g.bookings, nil, fmt.Errorf("%w: panic: %v\n%s", ErrOutcomeUnknown, v, debug.Stack()))
		}
	}()
	b.metrics.group(len(g.bookings))
	verdicts, err := b.create(ctx, g.bookings)
	if len(g.bookings) == 1 || !refused(err) {
		b.settle(g.bookings, verdicts, err)
		return
	}
	for one := range slices.Chunk(g.bookings, 1) {
		verdicts, err := b.create(ctx, one)
		b.settle(one, verdicts, err)
	}
}

// settle tells verdicts to those who have none yet.
func (b *booker) settle(bookings []*booking, verdicts []verdict, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i, k := range bookings {
		v := verdict{err: err}
		if err == nil {
			v = verdicts[i]
		}
		select {
		case k.verdict <- v:
			b.release(k)
		default:
		}
	}
}

func newBooker(cfg *APIConfig) booker {
	return booker{
		db: cfg.DB, schema: cfg.Schema, timeout: cfg.DBTimeout, farewell: min(cfg.DBTimeout/5, maxFarewell), patience: groupPatience, metrics: cfg.Metrics,
		within: func(end time.Time) (context.Context, context.CancelFunc) {
			return context.WithDeadline(context.Background(), end)
		},
	}
}
