package streamer

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// aheadBatches is how many numbered batches wait to be published at the most.
const aheadBatches = 2

// ahead numbers batches while others are published. While it runs, it owns the
// session and every field of leadership except published; settle hands them back.
type ahead struct {
	cancel context.CancelFunc
	quit   chan struct{} // closed to end it after the batch in hand
	done   chan struct{}
	// places are the batches that may still be numbered, batches those that are.
	places  chan struct{}
	batches chan []unilog.Entry
	// published is what the database may be told.
	published atomic.Int64
	recorded  int64 // what it has been told
	err       error
}

// numberAhead begins to number the batches that follow, as long as they are
// full.
func (p *publisher) numberAhead(ctx context.Context) {
	l := p.lead
	if l.ahead != nil {
		return
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &ahead{
		cancel: cancel, quit: make(chan struct{}), done: make(chan struct{}),
		places: make(chan struct{}, aheadBatches), batches: make(chan []unilog.Entry, aheadBatches),
		recorded: l.recorded,
	}
	for range aheadBatches - len(l.queue) {
		a.places <- struct{}{}
	}
	a.published.Store(l.published)
	l.ahead = a
	limit := p.limit
	go func() {
		defer close(a.done)
		defer close(a.batches)
		for {
			select {
			case <-a.quit:
				return
			case <-a.places:
			}
			published := a.published.Load()
			entries, err := p.numberNext(ctx, limit, published)
			if a.err = err; len(entries) == 0 {
				return
			}
			a.recorded = published
			a.batches <- entries // there is a place
			if len(entries) < limit {
				return
			}
		}
	}()
}

// numberNext numbers a batch, with the session to itself.
func (p *publisher) numberNext(ctx context.Context, limit int, published int64) ([]unilog.Entry, error) {
	l := p.lead
	l.busy.Lock()
	defer l.busy.Unlock()
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := l.chunks.EnsureRoom(ctx, l.conn, l.term, p.partition, l.numbered, int64(limit), p.cfg.chunkRecords); err != nil {
		return nil, err
	}
	channel := ""
	if log, ok := p.cfg.Log.(unilog.NotifiedLog); ok {
		channel = log.Channel()
	}
	began := time.Now()
	entries, last, err := number(ctx, l.conn, l.term, limit, published, l.low.mark, channel)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		l.low.passedAll()
		return nil, nil
	}
	l.numbered = entries[len(entries)-1].Offset
	l.low.passed(last)
	p.cfg.Observer.numbered(entries, time.Since(began))
	return entries, nil
}

// settle waits for what is being numbered. Then the session may be used for
// something else.
func (l *leadership) settle() {
	a := l.ahead
	if a == nil {
		return
	}
	close(a.quit)
	<-a.done
	a.cancel()
	for entries := range a.batches {
		l.queue = append(l.queue, entries)
	}
	l.recorded, l.aheadErr = a.recorded, a.err
	l.ahead = nil
}

// takeAhead returns the batch that was numbered ahead, if it is the next one to
// publish. Otherwise the log has lost entries, and the archive has it.
func (l *leadership) takeAhead() (entries []unilog.Entry, err error) {
	if len(l.queue) == 0 && l.ahead != nil {
		var open bool
		if entries, open = <-l.ahead.batches; open {
			l.queue = append(l.queue, entries)
		} else {
			l.settle()
		}
	}
	if l.aheadErr != nil || len(l.queue) == 0 {
		return nil, l.aheadErr
	}
	entries, l.queue = l.queue[0], l.queue[1:]
	if l.ahead != nil {
		l.ahead.places <- struct{}{}
	}
	if entries[0].Offset != l.published+1 {
		l.settle()
		l.queue = nil
		return nil, l.aheadErr
	}
	return entries, nil
}

// caughtUp says whether what was numbered before these entries is published. A
// log that is being rebuilt is not: what the database knows of published must
// not fall by numbering, and what was numbered ahead would wait in vain for its
// turn, while the archive has it too.
func (l *leadership) caughtUp(entries []unilog.Entry) bool {
	return l.ahead != nil || len(l.queue) > 0 || entries[len(entries)-1].Offset == l.numbered
}

// move notes how far the log goes.
func (l *leadership) move(published int64) {
	l.published = published
	if l.ahead != nil {
		l.ahead.published.Store(published)
	}
}
