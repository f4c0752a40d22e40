package streamer

import (
	"context"

	"github.com/rocketrides/unilog"
)

// Hooks are called between a streamer's steps, where a failure hurts
// most. Nil hooks are not called. An error from a hook is a crash at that
// place, of the part that publishes the partition: it forgets everything it holds in
// memory, its lead included, and starts again from what Postgres and the log know. A
// hook must be quick: the log stands still meanwhile. Several partitions call them at the
// same time.
type Hooks struct {
	// AfterNumber is called when entries have their offsets, committed, and
	// none of them is published. Whoever numbers may have gone on meanwhile.
	AfterNumber func(ctx context.Context, entries []unilog.Entry) error
	// MidAppend is called when a batch that takes several appends is partly
	// published, with the part that is.
	MidAppend func(ctx context.Context, published []unilog.Entry) error
	// AfterAppend is called when a batch is published and the database does not
	// know it yet.
	AfterAppend func(ctx context.Context, entries []unilog.Entry) error
}
