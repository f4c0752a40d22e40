package reader

import (
	"context"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
)

// readAhead is a read whose answer is wanted later. What it gives is compared with
// the checkpoint like any other.
type readAhead struct {
	cancel context.CancelFunc
	answer chan *answer
}

// ReadAhead begins to read what follows a batch that Next has returned, while the
// owner is busy with it. It reads nothing if there is more pending, or if the batch
// is small: then it was probably the end of the log.
func (r *Reader) ReadAhead(ctx context.Context, batch []unilog.Entry) {
	if r.ahead != nil || len(batch) < len(r.pending) || !r.full(batch) {
		return
	}
	after, limit := batch[len(batch)-1].Cursor(), r.limit
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	a := &readAhead{cancel, make(chan *answer, 1)}
	r.ahead = a
	go func() { a.answer <- r.ask(ctx, after, limit, 0) }()
}

// full says whether a batch has come to its limit, in records or in bytes.
func (r *Reader) full(batch []unilog.Entry) bool {
	size := 0
	for i := range batch {
		size += len(batch[i].Payload())
	}
	return len(batch) >= r.cfg.Limit || size >= archive.BatchBytes/2
}

// takeAhead returns what was read ahead, or nil if nothing was.
func (r *Reader) takeAhead() *answer {
	if r.ahead == nil {
		return nil
	}
	a := r.ahead
	r.ahead = nil
	defer a.cancel()
	return <-a.answer
}

// dropAhead ends what is being read ahead, and waits for the end.
func (r *Reader) dropAhead() {
	if r.ahead != nil {
		r.ahead.cancel()
		r.takeAhead()
	}
}
