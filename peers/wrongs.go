package main

import (
	"context"
	"fmt"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// outcome is what a wrong has done to a peer.
type outcome struct {
	verdict
	stalled bool // something that was staged afterwards has not arrived within the patience
	// noticed is what the relay has printed that sounds like trouble, "" if nothing.
	noticed string
	// whileOpen is how many records of others arrived while a transaction was open, of
	// those that were committed meanwhile.
	whileOpen, others int
}

func (o outcome) String() string {
	text := o.verdict.String()
	if o.stalled {
		text += ", stalled"
	}
	if o.noticed != "" {
		text += "; it said: " + o.noticed
	}
	if o.others > 0 {
		text += fmt.Sprintf("; %d of %d of others arrived while it was open", o.whileOpen, o.others)
	}
	return text
}

// wrong is something that is done to a peer.
type wrong struct {
	name    string
	notices bool // who notices it has something to say
	do      func(ctx context.Context, w *world, records int) (outcome, error)
}

var wrongs = []wrong{
	{"nothing wrong", false, nothing},
	{"FLUSHALL in the middle of a drain", true, flushed},
	{"kill -9 of the relay, five times", false, killed},
	{"overlapping commits, one held open", false, overlapping},
}

const (
	stagedAtOnce = 100 // records in a transaction
	kills        = 5
)

// nothing drains a backlog without a wrong.
func nothing(ctx context.Context, w *world, records int) (o outcome, err error) {
	if _, err := w.warmUp(ctx); err != nil {
		return o, err
	}
	if err := w.stageAll(ctx, between(1, records), stagedAtOnce); err != nil {
		return o, err
	}
	return w.settle(ctx, between(0, records), records)
}

// settle waits for the end and judges.
func (w *world) settle(ctx context.Context, committed []int, last int) (o outcome, err error) {
	arrived, err := w.drained(ctx, last)
	if err != nil {
		return o, err
	}
	stream, err := w.ids(ctx)
	if err != nil {
		return o, err
	}
	return outcome{verdict: judge(committed, stream), stalled: !arrived}, nil
}

// flushed empties Redis when half of a backlog has arrived, and stages one record more
// once all is quiet, which is to arrive, too.
func flushed(ctx context.Context, w *world, records int) (o outcome, err error) {
	if err := w.warmed(ctx); err != nil {
		return o, err
	}
	if err := w.stageAll(ctx, between(1, records), stagedAtOnce); err != nil {
		return o, err
	}
	r, err := w.startRelay()
	if err != nil {
		return o, err
	}
	if _, err := w.await(ctx, lookPause, func() (bool, error) {
		n, err := w.length(ctx)
		return n >= records/2, err
	}); err != nil {
		return o, err
	}
	said := len(r.lines())
	if err := w.redis.Do(ctx, w.redis.B().Flushall().Build()).Error(); err != nil {
		return o, err
	}
	if _, err := w.drained(ctx, records); err != nil {
		return o, err
	}
	if err := w.commit(ctx, []int{records + 1}); err != nil {
		return o, err
	}
	o, err = w.settle(ctx, between(0, records+1), records+1)
	o.noticed = trouble(r.lines()[said:])
	return o, err
}

var troubled = regexp.MustCompile(`(?i)\b(warn|warning|error|lost|missing|behind)\b`)

// trouble returns the first line that sounds like it.
func trouble(lines []string) string {
	for _, line := range lines {
		if troubled.MatchString(line) {
			return line
		}
	}
	return ""
}

// killed kills the relay while records flow, and starts it again, five times.
func killed(ctx context.Context, w *world, records int) (o outcome, err error) {
	r, err := w.warmUp(ctx)
	if err != nil {
		return o, err
	}
	portion := records / (kills + 1)
	for i := range kills {
		before, err := w.length(ctx)
		if err != nil {
			return o, err
		}
		if err := w.stageAll(ctx, between(i*portion+1, (i+1)*portion), portion); err != nil {
			return o, err
		}
		// At another point of its work each time.
		if _, err := w.await(ctx, lookPause, func() (bool, error) {
			n, err := w.length(ctx)
			return n > before+i*portion/(2*kills), err
		}); err != nil {
			return o, err
		}
		if err := r.kill(); err != nil {
			return o, err
		}
		if r, err = w.startRelay(); err != nil {
			return o, err
		}
	}
	if err := w.stageAll(ctx, between(kills*portion+1, records), stagedAtOnce); err != nil {
		return o, err
	}
	return w.settle(ctx, between(0, records), records)
}

// How the overlapping writers write.
const (
	writers   = 4
	perCommit = 3
	holder    = (writers + 1) * writerSpan
)

// overlapping holds a transaction open in which a record is staged, while others
// commit, which overlap each other, and until their records have arrived.
func overlapping(ctx context.Context, w *world, _ int) (o outcome, err error) {
	if _, err := w.warmUp(ctx); err != nil {
		return o, err
	}
	seen, err := w.observe(ctx)
	if err != nil {
		return o, err
	}
	defer seen.stop()
	held, err := w.db.Begin(ctx)
	if err != nil {
		return o, err
	}
	if err := w.stage(ctx, held, []int{holder}); err != nil {
		return o, err
	}
	committed := commits{at: map[int]time.Time{}}
	group, running := errgroup.WithContext(ctx)
	until := time.Now().Add(w.hold)
	for writer := 1; writer <= writers; writer++ {
		group.Go(func() error { return w.write(running, writer*writerSpan, until, &committed) })
	}
	if err := group.Wait(); err != nil {
		return o, err
	}
	if o.whileOpen, err = w.othersArrive(ctx, seen, committed.at); err != nil {
		return o, err
	}
	o.others = len(committed.at)
	committed.note(holder)
	if err := held.Commit(ctx); err != nil {
		return o, err
	}
	const last = 1
	committed.note(last)
	if err := w.commit(ctx, []int{last}); err != nil {
		return o, err
	}
	ids := []int{0}
	for id := range committed.at {
		ids = append(ids, id)
	}
	settledOutcome, err := w.settle(ctx, ids, last)
	if err != nil {
		return o, err
	}
	o.verdict, o.stalled = settledOutcome.verdict, settledOutcome.stalled
	return o, nil
}

// othersArrive waits until all have arrived, or none has for so long that they wait for
// the open transaction to end. What is promised is given all the time that it needs.
func (w *world) othersArrive(ctx context.Context, seen *observer, committed map[int]time.Time) (n int, err error) {
	limit := 10 * time.Second
	if _, ours := w.peer.(unilogPeer); ours {
		limit = patience
	}
	since := time.Now()
	_, err = w.await(ctx, slowPause, func() (bool, error) {
		before := n
		if n = seen.count(committed); n > before {
			since = time.Now()
		}
		return n == len(committed) || time.Since(since) > limit, nil
	})
	return n, err
}

// commits are when records were committed.
type commits struct {
	mu sync.Mutex
	at map[int]time.Time
}

func (c *commits) note(ids ...int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, id := range ids {
		c.at[id] = time.Now()
	}
}

// write commits small transactions one after the other, each open for some time.
func (w *world) write(ctx context.Context, first int, until time.Time, committed *commits) error {
	for id := first; time.Now().Before(until); id += perCommit {
		tx, err := w.db.Begin(ctx)
		if err != nil {
			return err
		}
		ids := between(id, id+perCommit-1)
		if err := w.stage(ctx, tx, ids); err != nil {
			return fmt.Errorf("stage: %w", err)
		}
		time.Sleep(time.Duration(10+id%7*10) * time.Millisecond)
		if err := tx.Commit(ctx); err != nil {
			return err
		}
		committed.note(ids...)
	}
	return nil
}
