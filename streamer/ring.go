package streamer

import (
	"context"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
)

const (
	// ringBytes and ringBatches bound what waits in the ring, beyond one step.
	ringBytes   = 8 << 20
	ringBatches = 8
	// ringPatience is how long the numberer waits for a lane that makes no progress.
	ringPatience = time.Second
	// settlePause bounds how long a step waits until what was numbered is published.
	settlePause = 2 * time.Millisecond
)

// ring hands what was numbered, and is known to be committed, to the leaders of the
// same process. Each has a lane. It is bounded, and the numberer waits while it is full;
// a lane that does not move loses what it holds, and its leader reads the archive.
type ring struct {
	mu      sync.Mutex
	lanes   map[int]*lane
	bytes   int
	batches int
	// room is closed when something was taken out.
	room chan struct{}
}

// lane is a leader's end of the ring.
type lane struct {
	ring *ring
	// wake has an element when there is something to look at.
	wake chan struct{}

	// What follows is guarded by the ring's mutex.

	// isOpen says that batches are kept. Else the leader reads the archive, and opens the
	// lane when it has nearly caught up.
	isOpen   bool
	batches  []batch // they follow each other
	busy     bool    // its leader is publishing one that it has taken
	numbered int64   // the last offset that was given and committed, as far as was told
	stale    bool    // what was numbered is to be asked of the database
	moved    time.Time
}

// batch is what one step of numbering gave to one partition.
type batch struct {
	entries []unilog.Entry
	bytes   int
	took    time.Duration // by the step
}

func (b *batch) first() int64 { return b.entries[0].Offset }
func (b *batch) last() int64  { return b.entries[len(b.entries)-1].Offset }

func newRing() *ring { return &ring{lanes: map[int]*lane{}, room: make(chan struct{})} }

// join gives a leader its lane.
func (r *ring) join(partition int) *lane {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := &lane{ring: r, wake: make(chan struct{}, 1), moved: time.Now()}
	r.lanes[partition] = l
	return l
}

// leave takes a leader's lane away.
func (r *ring) leave(partition int, l *lane) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lanes[partition] == l {
		l.drop()
		delete(r.lanes, partition)
	}
}

// led are the partitions whose batches are wanted here.
func (r *ring) led() []int32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	led := make([]int32, 0, len(r.lanes))
	for p, l := range r.lanes {
		if l.isOpen {
			led = append(led, int32(p))
		}
	}
	return led
}

// push tells a partition's leader of a batch that was committed and ends at an offset.
// Without entries, it only tells.
func (r *ring) push(partition int, last int64, b batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	l := r.lanes[partition]
	if l == nil {
		return
	}
	l.numbered = max(l.numbered, last)
	n := len(l.batches)
	switch {
	case !l.isOpen || len(b.entries) == 0:
	case n > 0 && l.batches[n-1].last()+1 != b.first():
		l.drop()
	default:
		l.batches = append(l.batches, b)
		r.bytes += b.bytes
		r.batches++
	}
	l.poke()
}

// wait waits until there is room.
func (r *ring) wait(ctx context.Context) {
	for ctx.Err() == nil {
		r.mu.Lock()
		if r.bytes < ringBytes && r.batches < ringBatches {
			r.mu.Unlock()
			return
		}
		for _, l := range r.lanes {
			if len(l.batches) > 0 && time.Since(l.moved) > ringPatience {
				l.drop()
			}
		}
		room := r.room
		r.mu.Unlock()
		select {
		case <-room:
		case <-time.After(ringPatience / 4):
		case <-ctx.Done():
		}
	}
}

// settle waits until the leaders have published what they were handed, or so long. What
// is staged meanwhile is then numbered together: steps of single records cost as much as
// those of many, which everybody behind them pays.
func (r *ring) settle(ctx context.Context, most time.Duration) {
	var late <-chan time.Time
	for ctx.Err() == nil {
		r.mu.Lock()
		settled := true
		for _, l := range r.lanes {
			settled = settled && !l.busy && len(l.batches) == 0
		}
		room := r.room
		r.mu.Unlock()
		if settled {
			return
		}
		if late == nil {
			timer := time.NewTimer(most)
			defer timer.Stop()
			late = timer.C
		}
		select {
		case <-room:
		case <-late:
			return
		case <-ctx.Done():
		}
	}
}

// look makes all leaders ask the database what was numbered.
func (r *ring) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.lanes {
		l.stale = true
		l.poke()
	}
}

// lookAt makes the leader of a partition do so.
func (r *ring) lookAt(partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.lanes[partition]; l != nil {
		l.stale = true
		l.poke()
	}
}

// drop closes the lane. The mutex is held.
func (l *lane) drop() {
	for _, b := range l.batches {
		l.ring.bytes -= b.bytes
	}
	l.ring.batches -= len(l.batches)
	l.batches, l.isOpen = nil, false
	l.ring.freed()
}

func (r *ring) freed() {
	close(r.room)
	r.room = make(chan struct{})
}

func (l *lane) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// told is what a lane knows beside its batches.
type told struct {
	// numbered is the last offset that was given and committed, as far as was told.
	numbered int64
	// before is the last offset before the lane's batches, or 0 if it has none.
	before int64
	// stale says that the database is to be asked what was numbered.
	stale bool
}

// take returns the batch that begins at an offset, if the lane has it.
func (l *lane) take(next int64) (b batch, t told) {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	l.moved = time.Now()
	if l.busy {
		l.busy = false
		l.ring.freed()
	}
	for len(l.batches) > 0 && l.batches[0].last() < next {
		l.remove()
	}
	if len(l.batches) > 0 && l.batches[0].first() < next { // a part of it was found in the log
		l.drop()
	}
	t = told{numbered: l.numbered, stale: l.stale}
	l.stale = false
	switch {
	case len(l.batches) == 0:
	case l.batches[0].first() == next:
		b, l.busy = l.remove(), true
	default:
		t.before = l.batches[0].first() - 1
	}
	return b, t
}

// remove takes out the first batch. The mutex is held.
func (l *lane) remove() batch {
	b := l.batches[0]
	l.batches = l.batches[1:]
	l.ring.bytes -= b.bytes
	l.ring.batches--
	l.ring.freed()
	return b
}

// open lets the lane keep what is numbered from now on.
func (l *lane) open() {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	l.isOpen, l.moved = true, time.Now()
}

// close drops what the lane has, and keeps nothing more.
func (l *lane) close() {
	l.ring.mu.Lock()
	defer l.ring.mu.Unlock()
	l.drop()
}
