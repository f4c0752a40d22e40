package torture

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// fault is something that happens to the system.
type fault struct {
	name string
	does string
	// inject does it, and returns when it is over. ctx ends with the torture;
	// what lasts is then ended early.
	inject func(ctx context.Context, x *injection) error
	// fromStart says that the system must go on while it lasts: others have to
	// take over, or nobody may wait. Of other faults, recovery is counted from
	// when they are over.
	fromStart bool
	// ofSeveral says that it does not come to a single partition, unless asked for.
	ofSeveral bool
}

// injection is one time that a fault happens.
type injection struct {
	*torture
	random *rand.Rand
	// begun is closed by faults that others have to bear, when they have begun.
	begun chan struct{}
	ended chan struct{}
	// Once ended: why it was not injected, or how long it lasted.
	err    error
	lasted time.Duration
}

// errNotNow is that a fault has nothing to be done to.
var errNotNow = errors.New("not now")

const (
	// meanPause is the mean time from a recovery to the next fault, unless they
	// come at a beat.
	meanPause = 300 * time.Millisecond
	// together is the share of faults that come with another one.
	together = 0.25
)

// injectFaults injects one after the other, and some together, until the time
// is over and nothing is owed. Each comes once before any comes twice.
func (t *torture) injectFaults(ctx context.Context) error {
	over := t.began.Add(t.For)
	var deck []fault
	drawn := 0
	draw := func() fault {
		if len(deck) == 0 {
			for _, f := range t.engine.catalogue() {
				if slices.Contains(t.Faults, f.name) {
					deck = append(deck, f)
				}
			}
			t.random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		deck = deck[1:]
		drawn++
		return f
	}
	wait := func() time.Duration { return time.Duration(t.random.ExpFloat64() * float64(meanPause)) }
	if t.Every > 0 {
		wait = func() time.Duration { return t.Every - time.Since(t.began)%t.Every }
	}
	for {
		pause(ctx, wait())
		if ctx.Err() != nil || !time.Now().Before(over) && !t.owed(drawn) {
			return ctx.Err()
		}
		faults := []fault{draw()}
		if t.Every == 0 && t.random.Float64() < together {
			faults = append(faults, draw())
		}
		if err := t.injectAll(ctx, faults); err != nil {
			return err
		}
	}
}

// owed says whether a fault has yet to come that found nothing to do so far, or had no
// turn. One that never finds anything is given up.
func (t *torture) owed(drawn int) bool {
	return t.Each && drawn < 10*len(t.Faults) && slices.ContainsFunc(t.Faults, func(name string) bool { return t.tally.counts[name] == nil })
}

// injectAll injects faults at once, and waits until all are over and the
// consumers go on.
func (t *torture) injectAll(ctx context.Context, faults []fault) error {
	began := time.Now()
	errs := make([]error, len(faults))
	var over, recovered sync.WaitGroup
	over.Add(len(faults))
	for i, f := range faults {
		x := &injection{
			torture: t, random: rand.New(rand.NewPCG(t.random.Uint64(), 0)),
			begun: make(chan struct{}), ended: make(chan struct{}),
		}
		go func() {
			defer over.Done()
			x.err = f.inject(ctx, x)
			x.lasted = time.Since(began)
			close(x.ended)
		}()
		recovered.Go(func() {
			t.tally.begin(f.name)
			defer t.tally.end(f.name)
			if f.fromStart {
				select {
				case <-x.begun:
				case <-x.ended: // it never began
				}
			} else {
				over.Wait()
			}
			from := time.Now()
			if err := t.watch.await(ctx, from, t.Patience); err != nil {
				errs[i] = fmt.Errorf("%w: after %s: %w", ErrViolated, f.name, err)
				return
			}
			took := time.Since(from)
			if <-x.ended; x.err != nil {
				t.tally.miss()
				fmt.Fprintf(t.journal, "%s was not injected: %v\n", f.name, x.err)
				return
			}
			t.tally.add(f.name, len(faults), x.lasted, took)
		})
	}
	recovered.Wait()
	over.Wait()
	return cmp.Or(ctx.Err(), errors.Join(errs...))
}

// eachAlone sees that each of those that can stand in for each other does the
// work when the others are frozen: one that hung would not have been missed.
func (t *torture) eachAlone(ctx context.Context) error {
	groups := [][]string{t.streamers()}
	for _, name := range consumerNames {
		groups = append(groups, t.instancesOf(name))
	}
	for _, group := range groups {
		for i, name := range group {
			others := slices.Delete(slices.Clone(group), i, i+1)
			if len(others) == 0 {
				continue
			}
			err := t.without(ctx, others)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%w: %s alone: %w", ErrViolated, name, err)
			}
		}
	}
	return nil
}

// without waits until the consumers go on while processes are frozen.
func (t *torture) without(ctx context.Context, names []string) (err error) {
	what := strings.Join(names, ", ") + " frozen"
	t.tally.begin(what)
	defer t.tally.end(what)
	for _, name := range names {
		if err := mend(ctx, func(context.Context) error { return t.system.Signal(name, syscall.SIGSTOP) }); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.system.Signal(name, syscall.SIGCONT)) }()
	}
	return t.watch.await(ctx, time.Now(), t.Patience)
}
