package streamer

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// part is a part of the streamer's work, a partition or the numbering: what is
// remembered of it from one term to the next. It is safe for concurrent use.
type part struct {
	readiness loop.Readiness

	mu    sync.Mutex
	retry loop.Backoff
	next  time.Time // no attempt before
	limit int       // records of the next batch, 0 for all: fewer after a failure

	// Of the last term here: its epoch, and the last offset that hooks and observer have
	// heard of.
	epoch, noticed int64
}

// parts are all those that the streamer knows of.
type parts struct {
	mu     sync.Mutex
	known  map[int]*part
	failed time.Time // when the log last could not be reached
}

func (ps *parts) part(i int) *part {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.known[i]
	if p == nil {
		p = &part{retry: loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}}
		ps.known[i] = p
	}
	return p
}

// notice notes up to where hooks and observer have heard of what was numbered.
func (p *part) notice(epoch, offset int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.epoch, p.noticed = epoch, offset
}

// begin returns up to where they have, when a term begins. If nobody led since the last
// one here, what was numbered meanwhile is news to them; else others were told.
func (p *part) begin(epoch, numbered int64) (noticed int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.epoch == 0 || epoch != p.epoch+1 {
		p.noticed = numbered
	}
	p.epoch, p.noticed = epoch, min(p.noticed, numbered)
	return p.noticed
}

// may says whether the part may be tried.
func (p *part) may() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return time.Now().After(p.next)
}

// failure puts the next attempt off.
func (p *part) failure() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.next = time.Now().Add(p.retry.Next())
}

// well notes that the work goes well: the next failure is the first one again.
func (p *part) well(ctx context.Context) {
	p.readiness.Note(ctx, nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retry.Reset()
}

// allowed returns how many records the next batch may have.
func (p *part) allowed(most int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return cmp.Or(p.limit, most)
}

// allow sets it.
func (p *part) allow(limit int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.limit = limit
}

// soonest returns how long it is until a part may be tried again, at most as long as
// given.
func (ps *parts) soonest(most time.Duration) time.Duration {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.known {
		p.mu.Lock()
		if wait := time.Until(p.next); wait > 0 {
			most = min(most, wait)
		}
		p.mu.Unlock()
	}
	return most
}

// fail notes that the log could not be reached, if that is what an error says.
func (ps *parts) fail(err error) {
	var log *unilog.LogError
	if !errors.As(err, &log) {
		return
	}
	ps.mu.Lock()
	defer ps.mu.Unlock()
	ps.failed = time.Now()
}

func (ps *parts) failing() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return time.Since(ps.failed) < failPause
}

// ready returns why a part of the work does not go well, if one does not.
func (ps *parts) ready() error {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.known {
		if err := p.readiness.Ready(); err != nil {
			return err
		}
	}
	return nil
}
