package consumer

import (
	"context"

	"github.com/rocketrides/unilog"
)

// Hooks are called between a consumer's steps; see
// [github.com/rocketrides/unilog/streamer.Hooks]. Like a [Handler] they are called for
// one partition at a time, and for different ones at the same time. For a dead letter that
// was requeued none is called.
type Hooks struct {
	// BeforeCommit is called when the handler has applied the entries, before the
	// commit. An error from it rolls everything back.
	BeforeCommit func(ctx context.Context, entries []unilog.Entry) error
	// AfterCommit is called when the entries are applied and saved. It is the
	// place to report progress from; it cannot fail. For commits that a crash of
	// Postgres undoes it is called again; see [Config.Archive].
	AfterCommit func(ctx context.Context, entries []unilog.Entry)
	// Skipped is called with entries that the consumer had applied before.
	Skipped func(ctx context.Context, entries []unilog.Entry)
}
