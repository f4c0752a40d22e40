package world

import (
	"context"
	"slices"
	"sync"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
)

// Arrivals are what reached the outside, in the order in which it did.
type Arrivals struct {
	mu      sync.Mutex
	Entries []unilog.Entry
	LogIDs  map[string]bool
}

func (a *Arrivals) Deliver(_ context.Context, logID string, entries []unilog.Entry) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.Entries = append(a.Entries, entries...)
	if a.LogIDs == nil {
		a.LogIDs = map[string]bool{}
	}
	a.LogIDs[logID] = true
	return nil
}

// Offsets are those of a partition, with what came again.
func (a *Arrivals) Offsets(partition int) (offsets []int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range a.Entries {
		if e.Partition == partition {
			offsets = append(offsets, e.Offset)
		}
	}
	return offsets
}

func (a *Arrivals) Count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.Entries)
}

func (a *Arrivals) Want(w *World, want ...int64) {
	w.Helper()
	if got := a.Offsets(0); !slices.Equal(got, want) {
		w.Errorf("arrived: %v, want %v", got, want)
	}
}

// WantAll sees that a partition's entries arrived, each at least once and none
// before the one that precedes it.
func (a *Arrivals) WantAll(w *World, partition int, n int64) {
	w.Helper()
	var last int64
	for _, offset := range a.Offsets(partition) {
		if offset > last+1 {
			w.Errorf("partition %d: offset %d arrived after %d", partition, offset, last)
		}
		last = max(last, offset)
	}
	if last != n {
		w.Errorf("partition %d: arrived up to offset %d, want %d", partition, last, n)
	}
}

func (w *World) Deliverer(deliver deliverer.Delivery, change ...func(*deliverer.Config)) *deliverer.Deliverer {
	w.Helper()
	cfg := deliverer.Config{
		Name: "hook", Log: w.Log, Deliver: deliver, Checkpoints: deliverer.PostgresCheckpoints(w.DB), Archive: w.DB, Logger: quiet,
	}
	for _, f := range change {
		f(&cfg)
	}
	d, err := deliverer.New(cfg)
	w.Must(err)
	return d
}

// Delivered is the checkpoint.
func (w *World) Delivered() int64 {
	w.Helper()
	return Query[int64](w, `SELECT coalesce(max("offset"), 0) FROM unilog.checkpoints WHERE name = 'hook'`)
}

// Publish commits amounts and streams them.
func (w *World) Publish(n int) {
	w.Helper()
	w.CommitMany(n)
	s := w.Streamer()
	w.Drain(s)
	s.Close()
}

// Picky rejects what a test says.
func (a *Arrivals) Picky(bad int64, why error) deliverer.Delivery {
	return func(ctx context.Context, logID string, entries []unilog.Entry) error {
		if slices.ContainsFunc(entries, func(e unilog.Entry) bool { return e.Offset == bad }) {
			return why
		}
		return a.Deliver(ctx, logID, entries)
	}
}
