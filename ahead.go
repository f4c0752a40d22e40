package unilog

import "context"

// ahead is a batch that is numbered while the one before it is published. The
// session belongs to that work until settle has returned.
type ahead struct {
	cancel  context.CancelFunc
	done    chan struct{}
	entries []Entry
	last    int64 // the id of the last
	err     error
}

// numberAhead begins to number the next batch. What the database knows of
// published must not fall by it, so it is not for a log that is being rebuilt.
func (s *Streamer) numberAhead(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	l, limit := s.lead, s.limit
	published, lowWater := l.published, l.low.mark
	a := &ahead{cancel: cancel, done: make(chan struct{})}
	l.ahead = a
	l.busy.Lock()
	go func() {
		defer close(a.done)
		defer l.busy.Unlock()
		if a.err = l.ensureRoom(ctx, limit, s.cfg.chunkRecords); a.err == nil {
			a.entries, a.last, a.err = number(ctx, l.conn, l.term, limit, published, lowWater)
		}
	}()
	l.recorded = published
}

// settle waits for a batch that is being numbered. Then its offsets are given,
// and the session may be used for something else.
func (l *leadership) settle() {
	if l.ahead == nil {
		return
	}
	<-l.ahead.done
	l.ahead.cancel()
	if n := len(l.ahead.entries); n > 0 {
		l.numbered = l.ahead.entries[n-1].Offset
		// Once, while it is settled what was so at the time of its snapshot.
		l.low.passed(l.ahead.last)
		l.ahead.last = 0
	}
}

// takeAhead returns the batch that was numbered ahead, if it is the next one to
// publish. Otherwise the log has lost entries, and the archive has it.
func (l *leadership) takeAhead() ([]Entry, error) {
	l.settle()
	a := l.ahead
	l.ahead = nil
	switch {
	case a == nil:
		return nil, nil
	case a.err != nil:
		return nil, a.err
	case len(a.entries) > 0 && a.entries[0].Offset == l.published+1:
		return a.entries, nil
	}
	return nil, nil
}
