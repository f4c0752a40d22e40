package main

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

const (
	lookPause = time.Millisecond
	slowPause = 50 * time.Millisecond // where nothing depends on the moment
	// patience bounds each wait for a relay. One that takes longer is stalled.
	patience = 5 * time.Minute
	// settled is for how long the stream must not change until it is read: longer than
	// any of them sleeps between two looks.
	settled = 3 * time.Second
	// aftermath is for what a relay does after it has published.
	aftermath  = time.Second
	readAtOnce = 5000
)

// idOf finds the record in an entry, be its JSON a value or quoted in another one.
var idPattern = regexp.MustCompile(`\\?"id\\?": ?([0-9]+)`)

func idOf(entry rueidis.XRangeEntry) (int, error) {
	for _, value := range entry.FieldValues {
		if m := idPattern.FindStringSubmatch(value); m != nil {
			return strconv.Atoi(m[1])
		}
	}
	return 0, fmt.Errorf("entry %s has no record: %v", entry.ID, entry.FieldValues)
}

// length is how many entries the stream has.
func (w *world) length(ctx context.Context) (int, error) {
	n, err := w.redis.Do(ctx, w.redis.B().Xlen().Key(w.stream()).Build()).AsInt64()
	return int(n), err
}

// ids are the records of all entries, in the stream's order.
func (w *world) ids(ctx context.Context) (ids []int, err error) {
	start := "-"
	for {
		entries, err := w.redis.Do(ctx, w.redis.B().Xrange().Key(w.stream()).Start(start).End("+").Count(readAtOnce).Build()).AsXRange()
		if err != nil {
			return nil, fmt.Errorf("read the stream: %w", err)
		}
		for _, e := range entries {
			id, err := idOf(e)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
			start = "(" + e.ID
		}
		if len(entries) < readAtOnce {
			return ids, nil
		}
	}
}

// arrived says whether a record is among the last entries.
func (w *world) arrived(ctx context.Context, id int) (bool, error) {
	const last = 100
	entries, err := w.redis.Do(ctx, w.redis.B().Xrevrange().Key(w.stream()).End("+").Start("-").Count(last).Build()).AsXRange()
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if found, err := idOf(e); err != nil || found == id {
			return err == nil, err
		}
	}
	return false, nil
}

// await looks until something holds, with a pause between. Not to hold within the patience is no error.
func (w *world) await(ctx context.Context, pause time.Duration, holds func() (bool, error)) (held bool, err error) {
	for overdue := time.Now().Add(patience); time.Now().Before(overdue); time.Sleep(pause) {
		if held, err = holds(); held || err != nil {
			return held, err
		}
		if err := cmp.Or(w.alive(), ctx.Err()); err != nil {
			return false, err
		}
	}
	return false, nil
}

// drained waits until a record that was staged last has arrived, and the stream does
// not change any more.
func (w *world) drained(ctx context.Context, last int) (bool, error) {
	held, err := w.await(ctx, slowPause, func() (bool, error) { return w.arrived(ctx, last) })
	if err != nil {
		return false, err
	}
	_, err = w.await(ctx, slowPause, w.unchanged(ctx))
	return held, err
}

// unchanged says whether the stream is as long as it was for a while.
func (w *world) unchanged(ctx context.Context) func() (bool, error) {
	before, since := -1, time.Now()
	return func() (bool, error) {
		n, err := w.length(ctx)
		if n != before {
			before, since = n, time.Now()
		}
		return time.Since(since) > settled, err
	}
}

// warmed is a world whose relay has worked, and is down.
func (w *world) warmed(ctx context.Context) error {
	r, err := w.warmUp(ctx)
	if err != nil {
		return err
	}
	time.Sleep(aftermath)
	return r.stop()
}

// warmUp starts the relay and has it carry one record, as the first connections and
// tables cost extra. Debezium sees what is committed after this alone.
func (w *world) warmUp(ctx context.Context) (*relay, error) {
	r, err := w.startRelay()
	if err != nil {
		return nil, err
	}
	if err := w.commit(ctx, []int{0}); err != nil {
		return nil, err
	}
	held, err := w.await(ctx, slowPause, func() (bool, error) { return w.arrived(ctx, 0) })
	if err == nil && !held {
		err = fmt.Errorf("the first record has not arrived within %v", patience)
	}
	return r, err
}
