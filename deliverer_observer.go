package unilog

import "time"

// DelivererObserver is told what a deliverer does; see [StreamerObserver]. Entries
// that come together are of one partition.
type DelivererObserver struct {
	// Committed is called when entries are delivered, or parked, and saved; it took as
	// long as the call that delivered them.
	Committed func(entries []Entry, took time.Duration)
	// GapFilled is called with entries that the log has lost, or no longer holds,
	// when they have been read from the archive.
	GapFilled func(entries []Entry)
	// Parked is called when a rejected entry has been put into dead_letters.
	Parked func(entry Entry, err error)
	// Failed is called with each error after which the deliverer starts again from
	// its checkpoint.
	Failed func(err error)
}

// And returns an observer that tells both.
func (o DelivererObserver) And(other DelivererObserver) DelivererObserver {
	return DelivererObserver{
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
	}
}

func (o *DelivererObserver) committed(entries []Entry, took time.Duration) {
	if o.Committed != nil {
		o.Committed(entries, took)
	}
}

func (o *DelivererObserver) gapFilled(entries []Entry) {
	if o.GapFilled != nil {
		o.GapFilled(entries)
	}
}

func (o *DelivererObserver) parked(entry Entry, err error) {
	if o.Parked != nil {
		o.Parked(entry, err)
	}
}

func (o *DelivererObserver) failed(err error) {
	if o.Failed != nil {
		o.Failed(err)
	}
}
