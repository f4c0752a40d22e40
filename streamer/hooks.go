package streamer

import (
	"context"

	"github.com/rocketrides/unilog"
)

// Hooks are called between a streamer's steps, where a failure hurts
// most. Nil hooks are not called. An error from a hook is a crash at that
// place: the streamer forgets everything it holds in memory, its leadership
// included, and starts again from what Postgres and the log know. A hook must be
// quick: after 1.5 s of silence another streamer may lead. Several partitions call
// them at the same time.
type Hooks struct {
	// AfterNumber is called when entries have their offsets, committed, and
	// none of them is published.
	AfterNumber func(ctx context.Context, entries []unilog.Entry) error
	// MidAppend is called when a batch that takes several appends is partly
	// published, with the part that is.
	MidAppend func(ctx context.Context, published []unilog.Entry) error
	// AfterAppend is called when a batch is published and the database does not
	// know it yet.
	AfterAppend func(ctx context.Context, entries []unilog.Entry) error
}
