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

var catalogue = slices.Concat(processFaults, postgresFaults, redisFaults, networkFaults)

// Names are those of all faults.
func Names() []string {
	var names []string
	for _, f := range catalogue {
		names = append(names, f.name)
	}
	return names
}

// Help says what each fault does, a line for each.
func Help() string {
	var b strings.Builder
	for _, f := range catalogue {
		fmt.Fprintf(&b, "  %-18s %s\n", f.name, f.does)
	}
	return b.String()
}

// errNotNow is that a fault has nothing to be done to.
var errNotNow = errors.New("not now")

const (
	// recoveryTimeout is when the system is taken to be stuck.
	recoveryTimeout = 90 * time.Second
	// meanPause is the mean time from a recovery to the next fault.
	meanPause = 300 * time.Millisecond
	// together is the share of faults that come with another one.
	together = 0.25
)

// injectFaults injects one after the other, and some together, until the time
// is over. Each comes once before any comes twice.
func (t *torture) injectFaults(ctx context.Context) error {
	over := t.began.Add(t.For)
	var deck []fault
	draw := func() fault {
		if len(deck) == 0 {
			for _, f := range catalogue {
				if slices.Contains(t.Faults, f.name) {
					deck = append(deck, f)
				}
			}
			t.random.Shuffle(len(deck), func(i, j int) { deck[i], deck[j] = deck[j], deck[i] })
		}
		f := deck[0]
		deck = deck[1:]
		return f
	}
	for {
		pause(ctx, time.Duration(t.random.ExpFloat64()*float64(meanPause)))
		if ctx.Err() != nil || !time.Now().Before(over) {
			return ctx.Err()
		}
		faults := []fault{draw()}
		if t.random.Float64() < together {
			faults = append(faults, draw())
		}
		if err := t.injectAll(ctx, faults); err != nil {
			return err
		}
	}
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
			if err := t.watch.await(ctx, from, recoveryTimeout); err != nil {
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

// eachAlone sees that each of those that come in pairs does the work when the
// other is frozen: one that hung would not have been missed.
func (t *torture) eachAlone(ctx context.Context) error {
	for _, pair := range [][]string{{"streamer-a", "streamer-b"}, {"consumer0-a", "consumer0-b"}} {
		for i, name := range pair {
			err := t.without(ctx, name)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("%w: %s alone: %w", ErrViolated, pair[1-i], err)
			}
		}
	}
	return nil
}

// without waits until the consumers go on while a process is frozen.
func (t *torture) without(ctx context.Context, name string) error {
	what := name + " frozen"
	t.tally.begin(what)
	defer t.tally.end(what)
	if err := mend(ctx, func(context.Context) error { return t.system.Signal(name, syscall.SIGSTOP) }); err != nil {
		return err
	}
	err := t.watch.await(ctx, time.Now(), recoveryTimeout)
	return errors.Join(err, t.system.Signal(name, syscall.SIGCONT))
}
