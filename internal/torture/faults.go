package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
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
	var over, recovered sync.WaitGroup
	over.Add(len(faults))
	var last time.Time // when the last one was over; once over
	var mu sync.Mutex
	errs := make([]error, len(faults))
	for i, f := range faults {
		x := &injection{torture: t, random: rand.New(rand.NewPCG(t.random.Uint64(), 0))}
		recovered.Go(func() {
			t.tally.begin(f.name)
			defer t.tally.end(f.name)
			var lasted time.Duration
			injected := make(chan error, 1)
			go func() {
				defer over.Done()
				err := f.inject(ctx, x)
				mu.Lock()
				defer mu.Unlock()
				last = time.Now()
				lasted = last.Sub(began)
				injected <- err
			}()
			from := began
			if !f.fromStart {
				over.Wait()
				from = last
			}
			err := t.watch.await(ctx, from, recoveryTimeout)
			took := time.Since(from)
			if errs[i] = <-injected; errs[i] != nil {
				return
			}
			if err != nil {
				errs[i] = fmt.Errorf("%w: after %s: %w", ErrViolated, f.name, err)
				return
			}
			t.tally.add(f.name, len(faults), lasted, took)
		})
	}
	recovered.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	for i, err := range errs {
		if errors.Is(err, ErrViolated) {
			return err
		}
		if err != nil {
			fmt.Fprintf(t.journal, "%s was not injected: %v\n", faults[i].name, err)
		}
	}
	return nil
}
