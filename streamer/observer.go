package streamer

import (
	"time"

	"github.com/rocketrides/unilog"
)

// Observer is told what a streamer does, for metrics and traces. Nil
// functions are not called. They must be quick, must not change the entries, and
// may be called at the same time. A time that something took includes the wait for
// its answer.
type Observer struct {
	// Leading is called with the epoch when a term begins, and with 0 when it is
	// over.
	Leading func(partition int, epoch int64)
	// Numbered is called when entries have got their offsets, committed. Where there
	// are several partitions, that is when the leader of theirs has read them, and
	// took is the time of the reading.
	Numbered func(entries []unilog.Entry, took time.Duration)
	// Appended is called after each append, with its error: none,
	// [unilog.ErrAlreadyAppended] for a double send, [unilog.ErrBehind] where the log has lost
	// entries, or another of [unilog.Log.Append].
	Appended func(entries []unilog.Entry, took time.Duration, err error)
	// LogLost is called when the log was found to have lost entries, by an append or
	// by a look at an idle log. They are published again, and begin after head.
	LogLost func(partition int, head int64)
	// Failed is called with each error after which the streamer starts again,
	// [unilog.ErrSimulated] included.
	Failed func(err error)
}

// And returns an observer that tells both.
func (o Observer) And(other Observer) Observer {
	return Observer{
		Leading: func(partition int, epoch int64) {
			o.leading(partition, epoch)
			other.leading(partition, epoch)
		},
		Numbered: func(entries []unilog.Entry, took time.Duration) {
			o.numbered(entries, took)
			other.numbered(entries, took)
		},
		Appended: func(entries []unilog.Entry, took time.Duration, err error) {
			o.appended(entries, took, err)
			other.appended(entries, took, err)
		},
		LogLost: func(partition int, head int64) {
			o.logLost(partition, head)
			other.logLost(partition, head)
		},
		Failed: func(err error) {
			o.failed(err)
			other.failed(err)
		},
	}
}

func (o *Observer) leading(partition int, epoch int64) {
	if o.Leading != nil {
		o.Leading(partition, epoch)
	}
}

func (o *Observer) numbered(entries []unilog.Entry, took time.Duration) {
	if o.Numbered != nil {
		o.Numbered(entries, took)
	}
}

func (o *Observer) appended(entries []unilog.Entry, took time.Duration, err error) {
	if o.Appended != nil {
		o.Appended(entries, took, err)
	}
}

func (o *Observer) logLost(partition int, head int64) {
	if o.LogLost != nil {
		o.LogLost(partition, head)
	}
}

func (o *Observer) failed(err error) {
	if o.Failed != nil {
		o.Failed(err)
	}
}
