package unilog

import (
	"context"
	"time"
)

// Reporter is implemented by a [Log] that also keeps how far its readers have come which
// keep their checkpoints where its streamers do not see them: in a database of their own,
// or in a file. Reports are for people, and for retention where that is asked for: no
// reader goes by them. A log that loses what it holds loses them, too, until their
// readers report again.
type Reporter interface {
	// Report notes how far a reader has come in partitions, and that it is alive. What
	// it has reported of other partitions stays.
	Report(ctx context.Context, name string, at map[int]Cursor) error

	// Reports returns the last report of each reader and partition, in no order.
	Reports(ctx context.Context) ([]Report, error)

	// ForgetReports removes those of a reader, which may have none. One that is running
	// reports again within half a minute.
	ForgetReports(ctx context.Context, name string) error
}

// Report is how far a reader has come in a partition.
type Report struct {
	Name      string
	Partition int
	// Offset is the last one that it has applied or delivered, or 0.
	Offset int64
	// Time is when it said so, by its own clock, to the millisecond.
	Time time.Time
}
