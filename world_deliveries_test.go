package unilog_test

import (
	"context"
	"slices"
	"sync"

	"github.com/rocketrides/unilog"
)

// arrivals are what reached the outside, in the order in which it did.
type arrivals struct {
	mu      sync.Mutex
	entries []unilog.Entry
	logIDs  map[string]bool
}

func (a *arrivals) deliver(_ context.Context, logID string, entries []unilog.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entries = append(a.entries, entries...)
	if a.logIDs == nil {
		a.logIDs = map[string]bool{}
	}
	a.logIDs[logID] = true
	return nil
}

// offsets are those of a partition, with what came again.
func (a *arrivals) offsets(partition int) (offsets []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.entries {
		if e.Partition == partition {
			offsets = append(offsets, e.Offset)
		}
	}
	return offsets
}

func (a *arrivals) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.entries)
}

func (a *arrivals) want(w *world, want ...int64) {
	w.Helper()
	if got := a.offsets(0); !slices.Equal(got, want) {
		w.Errorf("arrived: %v, want %v", got, want)
	}
}

// wantAll sees that a partition's entries arrived, each at least once and none
// before the one that precedes it.
func (a *arrivals) wantAll(w *world, partition int, n int64) {
	w.Helper()
	var last int64
	for _, offset := range a.offsets(partition) {
		if offset > last+1 {
			w.Errorf("partition %d: offset %d arrived after %d", partition, offset, last)
		}
		last = max(last, offset)
	}
	if last != n {
		w.Errorf("partition %d: arrived up to offset %d, want %d", partition, last, n)
	}
}

func (w *world) deliverer(deliver unilog.Delivery, change ...func(*unilog.DelivererConfig)) *unilog.Deliverer {
	w.Helper()
	cfg := unilog.DelivererConfig{
		Name: "hook", Log: w.log, Deliver: deliver, Checkpoints: unilog.PostgresCheckpoints(w.db), Archive: w.db, Logger: quiet,
	}
	for _, f := range change {
		f(&cfg)
	}
	d, err := unilog.NewDeliverer(cfg)
	w.must(err)
	return d
}

// delivered is the checkpoint.
func (w *world) delivered() int64 {
	w.Helper()
	return query[int64](w, `SELECT coalesce(max("offset"), 0) FROM checkpoints WHERE name = 'hook'`)
}

// publish commits amounts and streams them.
func (w *world) publish(n int) {
	w.Helper()
	w.commitMany(n)
	s := w.streamer()
	w.drain(s)
	s.Close()
}

// picky rejects what a test says.
func (a *arrivals) picky(bad int64, why error) unilog.Delivery {
	return func(ctx context.Context, logID string, entries []unilog.Entry) error {
		if slices.ContainsFunc(entries, func(e unilog.Entry) bool { return e.Offset == bad }) {
			return why
		}
		return a.deliver(ctx, logID, entries)
	}
}
