package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"
)

// hold is for how long a transaction is open.
const hold = 5 * time.Second

// results are all that was found.
type results struct {
	peers    []peer
	outcomes map[string][]suffered // by the wrong's name
	rounds   map[string][]figures  // by the peer's name
	took     time.Duration
	failures []error
}

// suffered is what a wrong did to whom.
type suffered struct {
	peer
	outcome
}

// compare does everything, and prints and writes what it found.
func compare(ctx context.Context, c config) error {
	began := time.Now()
	all := results{peers: c.peers(), outcomes: map[string][]suffered{}, rounds: map[string][]figures{}}
	setting := describe(ctx, c)
	if c.debezium == "" {
		say("Debezium is left out: no --debezium was given")
	}
	// That all deliver everything when nothing is wrong is seen by each drain below.
	for _, x := range wrongs[1:] {
		for _, p := range c.untuned() {
			all.suffer(ctx, c, p, x)
		}
	}
	for round := range c.rounds {
		for i := range all.peers {
			// Another one begins each time.
			all.measure(ctx, c, all.peers[(i+round*len(all.peers)/c.rounds)%len(all.peers)], round)
		}
	}
	all.took = time.Since(began)
	text := all.report(c, setting)
	fmt.Print(text)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if len(all.failures) == 0 && c.document != "" && !c.noWrongs && c.only == "" {
		all.failures = append(all.failures, replaceMeasured(c.document, text))
	}
	return errors.Join(all.failures...)
}

// suffer does a wrong to a peer. What cannot be done is kept for the end, so that the
// rest is told, also after an interruption.
func (all *results) suffer(ctx context.Context, c config, p peer, x wrong) {
	if ctx.Err() != nil || c.noWrongs {
		return
	}
	say("%s: %s", x.name, p.name())
	o, err := suffer(ctx, p, x, share(p, c.records), hold)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		all.fail(fmt.Errorf("%s: %w", x.name, err))
		return
	}
	say("    %v", o)
	all.outcomes[x.name] = append(all.outcomes[x.name], suffered{p, o})
}

func (all *results) measure(ctx context.Context, c config, p peer, round int) {
	if ctx.Err() != nil {
		return
	}
	say("round %d of %d: %s", round+1, c.rounds, p.name())
	f := figures{}
	err := within(ctx, p, hold, func(w *world) error { return measure(ctx, w, share(p, 2*c.records), f) })
	if err != nil && ctx.Err() == nil {
		all.fail(err)
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		say("    %s: %s", name, number(f[name]))
	}
	if all.rounds[p.name()] == nil {
		all.rounds[p.name()] = make([]figures, c.rounds)
	}
	all.rounds[p.name()][round] = f
}

func (all *results) fail(err error) {
	say("failed: %v", err)
	all.failures = append(all.failures, err)
}

// say tells on standard error what happens.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
