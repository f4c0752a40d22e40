package main

import (
	"context"
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
	outcomes map[string][]outcome // by the wrong's name, as untuned peers are
	rounds   map[string][]figures // by the peer's name
	took     time.Duration
}

// compare does everything, and prints and writes what it found.
func compare(ctx context.Context, c config) error {
	began := time.Now()
	all := results{peers: c.peers(), outcomes: map[string][]outcome{}, rounds: map[string][]figures{}}
	setting := describe(ctx, c)
	if c.debezium == "" {
		say("Debezium is left out: no --debezium was given")
	}
	// That all deliver everything when nothing is wrong is seen by each drain below.
	for _, x := range wrongs[1:] {
		for _, p := range c.untuned() {
			say("%s: %s", x.name, p.name())
			o, err := suffer(ctx, p, x, share(p, c.records), hold)
			if err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
			say("    %v", o)
			all.outcomes[x.name] = append(all.outcomes[x.name], o)
		}
	}
	for round := range c.rounds {
		for i := range all.peers {
			// Another one begins each time.
			p := all.peers[(i+round*len(all.peers)/c.rounds)%len(all.peers)]
			say("round %d of %d: %s", round+1, c.rounds, p.name())
			f, err := measure(ctx, p, c, round)
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(f)) {
				say("    %s: %s", name, number(f[name]))
			}
			all.rounds[p.name()] = append(all.rounds[p.name()], f)
		}
	}
	all.took = time.Since(began)
	text := all.report(c, setting)
	fmt.Print(text)
	if c.document == "" {
		return nil
	}
	return replaceMeasured(c.document, text)
}

// measure is one round of one peer. What takes its time is measured in the first round
// alone: how long records take, one by one, and what nothing costs.
func measure(ctx context.Context, p peer, c config, round int) (figures, error) {
	f := figures{}
	err := within(ctx, p, hold, func(w *world) error { return drain(ctx, w, share(p, 2*c.records), f) })
	if err != nil || round >= trickleRounds {
		return f, err
	}
	return f, within(ctx, p, hold, func(w *world) error { return trickle(ctx, w, f) })
}

const trickleRounds = 1

// say tells on standard error what happens.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
