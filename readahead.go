package unilog

import (
	"context"
	"time"
)

// readAhead is a batch that is read while the one before it is applied. What it
// gives is compared with the checkpoint like any other.
type readAhead struct {
	cancel context.CancelFunc
	done   chan struct{} // closed when entries and err are there
	// Of the log's Read.
	entries []Entry
	err     error
}

// startAhead begins to read what follows a batch that is about to be applied.
// A batch that is not full has found the end of the log; and after a failure the
// next limit is known only when the batch is done.
func (c *partitionConsumer) startAhead(ctx context.Context, batch []Entry) {
	if !c.readsAhead || c.limit < c.cfg.BatchRecords || !c.full(batch) {
		return
	}
	last := batch[len(batch)-1]
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	a := &readAhead{cancel: cancel, done: make(chan struct{})}
	c.ahead = a
	go func() {
		defer close(a.done)
		a.entries, a.err = c.cfg.Log.Read(ctx, c.partition, Cursor{last.Offset, last.Position}, c.cfg.BatchRecords, 0)
	}()
}

// full says whether a batch has come to its limit, in records or in bytes.
func (c *partitionConsumer) full(batch []Entry) bool {
	size := 0
	for i := range batch {
		size += len(batch[i].Data)
	}
	return len(batch) >= c.cfg.BatchRecords || size >= batchBytes/2
}

// read returns the next entries: those read ahead, if there are any.
func (c *partitionConsumer) read(ctx context.Context, wait time.Duration) ([]Entry, error) {
	if a := c.ahead; a != nil {
		<-a.done
		c.dropAhead()
		if len(a.entries) > 0 || a.err != nil {
			return a.entries, a.err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait+callTimeout)
	defer cancel()
	return c.cfg.Log.Read(ctx, c.partition, *c.at, c.limit, wait)
}

// dropAhead ends what is being read ahead, and forgets it.
func (c *partitionConsumer) dropAhead() {
	if c.ahead != nil {
		c.ahead.cancel()
		<-c.ahead.done
		c.ahead = nil
	}
}
