package deliverer

import (
	"time"

	"github.com/rocketrides/unilog"
)

// Observer is told what a deliverer does; see
// [github.com/rocketrides/unilog/streamer.Observer]. Entries
// that come together are of one partition.
type Observer struct {
	// Committed is called when entries are delivered, or parked, and saved, or are to be
	// saved with others; it took as long as that, from the beginning of the call that
	// delivered them.
	Committed func(entries []unilog.Entry, took time.Duration)
	// GapFilled is called with entries that the log has lost, or no longer holds,
	// when they have been read from the archive.
	GapFilled func(entries []unilog.Entry)
	// PassedOver is called with the number of entries that were passed over because
	// [Config.Only] does not ask for them, when that is saved.
	PassedOver func(entries int64)
	// Parked is called when a rejected entry has been put into dead_letters.
	Parked func(entry unilog.Entry, err error)
	// Failed is called with each error after which the deliverer starts again from
	// its checkpoint.
	Failed func(err error)
	// Unreported is called when the deliverer could not report to the log how far it has
	// come, which it does if its checkpoints are not in the log's own database.
	Unreported func(err error)
}

// And returns an observer that tells both.
func (o Observer) And(other Observer) Observer {
	return Observer{
		Committed: func(entries []unilog.Entry, took time.Duration) {
			o.committed(entries, took)
			other.committed(entries, took)
		},
		GapFilled: func(entries []unilog.Entry) {
			o.gapFilled(entries)
			other.gapFilled(entries)
		},
		PassedOver: func(entries int64) {
			o.passedOver(entries)
			other.passedOver(entries)
		},
		Parked: func(entry unilog.Entry, err error) {
			o.parked(entry, err)
			other.parked(entry, err)
		},
		Failed: func(err error) {
			o.failed(err)
			other.failed(err)
		},
		Unreported: func(err error) {
			o.unreported(err)
			other.unreported(err)
		},
	}
}

func (o *Observer) committed(entries []unilog.Entry, took time.Duration) {
	if o.Committed != nil {
		o.Committed(entries, took)
	}
}

func (o *Observer) gapFilled(entries []unilog.Entry) {
	if o.GapFilled != nil {
		o.GapFilled(entries)
	}
}

func (o *Observer) passedOver(entries int64) {
	if entries > 0 && o.PassedOver != nil {
		o.PassedOver(entries)
	}
}

func (o *Observer) parked(entry unilog.Entry, err error) {
	if o.Parked != nil {
		o.Parked(entry, err)
	}
}

func (o *Observer) failed(err error) {
	if o.Failed != nil {
		o.Failed(err)
	}
}

func (o *Observer) unreported(err error) {
	if o.Unreported != nil {
		o.Unreported(err)
	}
}
