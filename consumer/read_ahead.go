package consumer

import (
	"context"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
)

// readAhead is a batch that is read while the one before it is applied. What it
// gives is compared with the checkpoint like any other.
type readAhead struct {
	cancel  context.CancelFunc
	done    chan struct{} // closed when entries and err are there
	entries []unilog.Entry
	logID   string
	err     error
}

// startAhead begins to read what follows a batch that is about to be applied.
// A batch that is not full has found the end of the log; and after a failure the
// next limit is known only when the batch is done.
func (c *partitionConsumer) startAhead(ctx context.Context, batch []unilog.Entry) {
	if !c.readsAhead || c.limit < c.cfg.BatchRecords || !c.full(batch) {
		return
	}
	last := batch[len(batch)-1]
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	a := &readAhead{cancel: cancel, done: make(chan struct{})}
	c.ahead = a
	go func() {
		defer close(a.done)
		a.entries, a.logID, a.err = c.ask(ctx, last.Cursor(), c.cfg.BatchRecords, 0)
	}()
}

// full says whether a batch has come to its limit, in records or in bytes.
func (c *partitionConsumer) full(batch []unilog.Entry) bool {
	size := 0
	for i := range batch {
		size += len(batch[i].Data)
	}
	return len(batch) >= c.cfg.BatchRecords || size >= archive.BatchBytes/2
}

// read returns the next entries, those read ahead if there are any, and whose log
// they are of.
func (c *partitionConsumer) read(ctx context.Context, wait time.Duration) ([]unilog.Entry, string, error) {
	if a := c.ahead; a != nil {
		<-a.done
		c.dropAhead()
		if len(a.entries) > 0 || a.err != nil {
			return a.entries, a.logID, a.err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, wait+loop.CallTimeout)
	defer cancel()
	return c.ask(ctx, *c.at, c.limit, wait)
}

// ask reads from the log, and then asks whose it is: a log that was lost may be
// another database's a moment later, and have the very offsets that come next.
func (c *partitionConsumer) ask(ctx context.Context, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, string, error) {
	entries, err := c.cfg.Log.Read(ctx, c.partition, after, limit, wait)
	if err != nil {
		return nil, "", &unilog.LogError{Call: "read the log", Err: err}
	}
	head, err := c.cfg.Log.Head(ctx, c.partition)
	if err != nil {
		return nil, "", &unilog.LogError{Call: "read the log's head", Err: err}
	}
	return entries, head.LogID, nil
}

// dropAhead ends what is being read ahead, and forgets it.
func (c *partitionConsumer) dropAhead() {
	if c.ahead != nil {
		c.ahead.cancel()
		<-c.ahead.done
		c.ahead = nil
	}
}
