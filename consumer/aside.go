package consumer

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

// patience is how long a partition may be out of order until its process leaves it to
// others, or a free one may be unwanted until others take it beyond their share. With
// a renewal's pause it is less than 5 s. A read alone takes up to [reader.ReadWait].
const patience = 4 * time.Second

// aside is what a process leaves to others, because it cannot do its work there:
//
//	works ── cannot read it, or its handler hangs, and there are others ──▶ aside
//	aside ── could read it, and the handler has returned ──▶ works, as its share allows
//
// A process that has nothing else to work on is aside as a whole: it is no member any
// more, so that the others share all.
type aside struct {
	from  map[int]bool
	whole bool

	trying bool
	tried  chan trial
	last   int // the partition that was tried last and failed
}

// trial is what came of trying to read partitions.
type trial struct {
	good   []int
	failed int // -1: none
}

func newAside() aside { return aside{from: map[int]bool{}, tried: make(chan trial)} }

// giveUp gives partitions up in which this process cannot do its work, if there are
// others who may. Their leases are to be given back.
func (r *crew) giveUp(d division) {
	if !d.others {
		return
	}
	works, gave := false, false
	for partition, w := range r.workers {
		c := r.partitions[partition]
		err := c.condition.trouble(r.cfg.patience)
		switch {
		case w.stopping:
		case err == nil:
			works = true
		default:
			c.log.Warn("leaving the partition to other processes of this consumer: it cannot be worked on here", "err", err)
			c.readiness.Note(context.Background(), err)
			r.aside.from[partition], gave = true, true
			w.end()
		}
	}
	if works || !gave {
		return
	}
	r.aside.whole = true
	for partition := range r.partitions { // so that any of them may end it
		r.aside.from[partition] = true
	}
	if err := r.member.leave(); err != nil {
		r.log.Debug("could not give the leases back: they expire", "err", err)
	}
	r.report()
}

// takes says whether this process may take a partition.
func (r *crew) takes(partition int, others bool) bool {
	return !r.aside.from[partition] && !(others && r.hangs())
}

// stays says whether a process that is aside as a whole has to stay so: it can work on
// nothing, or others are there to do it.
func (r *crew) stays(ctx context.Context) bool {
	if len(r.aside.from) == len(r.partitions) {
		return true
	}
	others, err := r.member.others(ctx)
	return others || err != nil
}

// hangs says whether a handler does.
func (r *crew) hangs() bool {
	return slices.ContainsFunc(r.partitions, func(c *partitionConsumer) bool { return c.condition.hang.Err() != nil })
}

// try tries to read the partitions that this process has given up, one after the other
// until one fails, in a goroutine of its own.
func (r *crew) try(ctx context.Context) {
	if r.aside.trying {
		return
	}
	var first, later []*partitionConsumer
	for _, partition := range slices.Sorted(maps.Keys(r.aside.from)) {
		switch {
		case r.workers[partition] != nil: // it has not ended
		case partition > r.aside.last:
			first = append(first, r.partitions[partition])
		default:
			later = append(later, r.partitions[partition])
		}
	}
	if all := append(first, later...); len(all) > 0 {
		r.aside.trying = true
		r.helpers.Go(func() {
			t := tryAll(ctx, all)
			select {
			case r.aside.tried <- t:
			case <-ctx.Done():
			}
		})
	}
}

func tryAll(ctx context.Context, all []*partitionConsumer) (t trial) {
	t.failed = -1
	for _, c := range all {
		if err := c.try(ctx); err != nil {
			c.log.Debug("the partition cannot be worked on yet", "err", err)
			t.failed = c.partition
			loop.Sleep(ctx, leaseRenewal)
			break
		}
		t.good = append(t.good, c.partition)
	}
	return t
}

// comeBack makes what could be read this process's business again.
func (r *crew) comeBack(t trial) {
	r.aside.trying, r.aside.last = false, t.failed
	for _, partition := range t.good {
		delete(r.aside.from, partition)
		r.partitions[partition].readiness.Forget()
	}
	if len(t.good) > 0 && r.aside.whole && !r.hangs() {
		r.aside.whole = false
		r.log.Info("taking part again")
	}
}
