package unilog

import (
	"time"
)

// ConsumerObserver is told what a consumer does; see [StreamerObserver]. Entries
// that come together are of one partition.
type ConsumerObserver struct {
	// Committed is called when entries are applied, or parked, and saved; it took
	// as long from the beginning of the transaction to the end of its commit. See
	// [ConsumerHooks] for commits that a crash of Postgres undoes.
	Committed func(entries []Entry, took time.Duration)
	// GapFilled is called with entries that the log has lost, or no longer holds,
	// when they have been read from the archive.
	GapFilled func(entries []Entry)
	// Parked is called when a rejected entry has been put into dead_letters.
	Parked func(entry Entry, err error)
	// Failed is called with each error after which the consumer starts again from
	// its checkpoint, [ErrSimulated] included.
	Failed func(err error)
	// Leases is called with the partitions that this process reads in Run, in
	// their order, when they change: none of them when Run ends.
	Leases func(partitions []int)
}

// And returns an observer that tells both.
func (o ConsumerObserver) And(other ConsumerObserver) ConsumerObserver {
	return ConsumerObserver{
		Committed: func(entries []Entry, took time.Duration) {
			o.committed(entries, took)
			other.committed(entries, took)
		},
		GapFilled: func(entries []Entry) {
			o.gapFilled(entries)
			other.gapFilled(entries)
		},
		Parked: func(entry Entry, err error) {
			o.parked(entry, err)
			other.parked(entry, err)
		},
		Failed: func(err error) {
			o.failed(err)
			other.failed(err)
		},
		Leases: func(partitions []int) {
			o.leases(partitions)
			other.leases(partitions)
		},
	}
}

func (o *ConsumerObserver) committed(entries []Entry, took time.Duration) {
	if o.Committed != nil {
		o.Committed(entries, took)
	}
}

func (o *ConsumerObserver) gapFilled(entries []Entry) {
	if o.GapFilled != nil {
		o.GapFilled(entries)
	}
}

func (o *ConsumerObserver) parked(entry Entry, err error) {
	if o.Parked != nil {
		o.Parked(entry, err)
	}
}

func (o *ConsumerObserver) failed(err error) {
	if o.Failed != nil {
		o.Failed(err)
	}
}

func (o *ConsumerObserver) leases(partitions []int) {
	if o.Leases != nil {
		o.Leases(partitions)
	}
}
