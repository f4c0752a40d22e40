package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// checkHold is for how long a transaction is open here.
const checkHold = 2 * time.Second

// check does each wrong to each peer. What unilog promises must hold; every other one
// must deliver all in order when nothing is wrong, or the comparison would not be fair.
// What a wrong does to it is only said.
func check(ctx context.Context, c config) error {
	var errs []error
	for _, x := range wrongs {
		for _, p := range c.untuned() {
			if _, slow := p.(debeziumPeer); slow && x.name != wrongs[0].name {
				continue // nothing is asserted of it, and each start of Java takes seconds of CPU
			}
			began := time.Now()
			o, err := suffer(ctx, p, x, c.records, checkHold)
			if err != nil {
				return fmt.Errorf("%s: %w", x.name, err)
			}
			fmt.Printf("%-36s %-14s %v (%.1f s)\n", x.name, p.name(), o, time.Since(began).Seconds())
			if _, ours := p.(unilogPeer); ours || x.name == wrongs[0].name {
				if err := o.flaw(x); err != nil {
					errs = append(errs, fmt.Errorf("%s: %s: %w", x.name, p.name(), err))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// suffer does a wrong to a peer on servers of its own.
func suffer(ctx context.Context, p peer, x wrong, records int, hold time.Duration) (o outcome, err error) {
	err = within(ctx, p, hold, func(w *world) error {
		o, err = x.do(ctx, w, records)
		return err
	})
	return o, err
}

// flaw is what is wrong with an outcome, for whom it must not be.
func (o outcome) flaw(x wrong) error {
	switch {
	case !o.clean():
		return errors.New(o.verdict.String())
	case o.stalled:
		return errors.New("what was staged afterwards has not arrived")
	case x.notices && o.noticed == "":
		return errors.New("it has said nothing")
	case o.whileOpen < o.others:
		return fmt.Errorf("of others' %d records %d waited for an open transaction", o.others, o.others-o.whileOpen)
	}
	return nil
}
