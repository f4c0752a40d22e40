package unilog

import (
	"context"
	"math/rand/v2"
	"sync"
)

// StreamerHooks are called between a streamer's steps, where a failure hurts
// most. Nil hooks are not called. An error from a hook is a crash at that
// place: the streamer forgets everything it holds in memory, its leadership
// included, and starts again from what Postgres and the log know. A hook must be
// quick: after 1.5 s of silence another streamer may lead. Several partitions call
// them at the same time.
type StreamerHooks struct {
	// AfterNumber is called when entries have their offsets, committed, and
	// none of them is published.
	AfterNumber func(ctx context.Context, entries []Entry) error
	// MidAppend is called when a batch that takes several appends is partly
	// published, with the part that is.
	MidAppend func(ctx context.Context, published []Entry) error
	// AfterAppend is called when a batch is published and the database does not
	// know it yet.
	AfterAppend func(ctx context.Context, entries []Entry) error
}

// ConsumerHooks are called between a consumer's steps; see [StreamerHooks]. Like a
// [Handler] they are called for one partition at a time, and for different ones at
// the same time.
type ConsumerHooks struct {
	// BeforeCommit is called when the handler has applied the entries and
	// nothing is committed. An error from it rolls everything back.
	BeforeCommit func(ctx context.Context, entries []Entry) error
	// AfterCommit is called when the entries are applied and saved. It is the
	// place to report progress from; it cannot fail. For commits that a crash of
	// Postgres undoes it is called again; see [ConsumerConfig.Archive].
	AfterCommit func(ctx context.Context, entries []Entry)
	// Skipped is called with entries that the consumer had applied before.
	Skipped func(ctx context.Context, entries []Entry)
}

// SimulateFailures returns a hook that fails with [ErrSimulated], each time
// with the given probability. It is safe for concurrent use; the same seed
// gives the same sequence.
func SimulateFailures(probability float64, seed uint64) func(context.Context, []Entry) error {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	return func(context.Context, []Entry) error {
		mu.Lock()
		defer mu.Unlock()
		if random.Float64() < probability {
			return ErrSimulated
		}
		return nil
	}
}

func callHook(ctx context.Context, hook func(context.Context, []Entry) error, entries []Entry) error {
	if hook == nil {
		return nil
	}
	return hook(ctx, entries)
}
