package streamer

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rocketrides/unilog"
)

// batchOf has the offsets from one to another, and so many bytes.
func batchOf(first, last int64, bytes int) batch {
	b := batch{bytes: bytes}
	for o := first; o <= last; o++ {
		b.entries = append(b.entries, unilog.Entry{Offset: o})
	}
	return b
}

// openLane is a lane of a ring that keeps what is numbered.
func openLane(r *ring, partition int) *lane {
	l := r.join(partition)
	l.open()
	return l
}

func wantTaken(t *testing.T, l *lane, next, first, last int64) (told told) {
	t.Helper()
	b, told := l.take(next)
	switch {
	case len(b.entries) == 0 && first != 0:
		t.Errorf("nothing is taken at %d, want %d to %d", next, first, last)
	case len(b.entries) > 0 && (b.first() != first || b.last() != last):
		t.Errorf("%d to %d are taken at %d, want %d to %d", b.first(), b.last(), next, first, last)
	}
	return told
}

func wantHeld(t *testing.T, r *ring, batches, bytes int) {
	t.Helper()
	if r.batches != batches || r.bytes != bytes {
		t.Errorf("the ring has %d batches of %d bytes, want %d of %d", r.batches, r.bytes, batches, bytes)
	}
}

func TestRingHandsBatchesOnInOrder(t *testing.T) {
	t.Parallel()
	r := newRing()
	l := openLane(r, 3)
	if led := r.led(); !slices.Equal(led, []int32{3}) {
		t.Errorf("wanted are the batches of %v", led)
	}
	r.push(3, 5, batchOf(1, 5, 50))
	r.push(4, 9, batchOf(1, 9, 90)) // nobody's here
	r.push(3, 6, batchOf(6, 6, 10))
	wantHeld(t, r, 2, 60)
	wantTaken(t, l, 1, 1, 5)
	if told := wantTaken(t, l, 6, 6, 6); told.numbered != 6 || told.stale {
		t.Errorf("the lane tells %+v", told)
	}
	wantTaken(t, l, 7, 0, 0)
	wantHeld(t, r, 0, 0)
	r.look()
	if _, told := l.take(7); !told.stale {
		t.Error("a look is not told")
	}
	if _, told := l.take(7); told.stale {
		t.Error("a look is told twice")
	}
}

// TestLaneThatIsClosedOnlyTells sees that a leader that reads the archive knows how far.
func TestLaneThatIsClosedOnlyTells(t *testing.T) {
	t.Parallel()
	r := newRing()
	l := r.join(0)
	r.push(0, 5, batchOf(1, 5, 50))
	if told := wantTaken(t, l, 1, 0, 0); told.numbered != 5 || told.before != 0 {
		t.Errorf("the lane tells %+v", told)
	}
	l.open()
	r.push(0, 9, batchOf(6, 9, 40))
	if told := wantTaken(t, l, 1, 0, 0); told.numbered != 9 || told.before != 5 {
		t.Errorf("the lane has 6 to 9 and tells %+v", told)
	}
	wantTaken(t, l, 6, 6, 9)
	wantHeld(t, r, 0, 0)
}

func TestBatchesThatDoNotFollowAreDropped(t *testing.T) {
	t.Parallel()
	r := newRing()
	l := openLane(r, 0)
	r.push(0, 5, batchOf(1, 5, 50))
	r.push(0, 9, batchOf(8, 9, 20)) // another streamer numbered between them
	wantHeld(t, r, 0, 0)
	if told := wantTaken(t, l, 1, 0, 0); told.numbered != 9 {
		t.Errorf("the lane tells %+v", told)
	}
	l.open()
	r.push(0, 12, batchOf(10, 12, 30))
	wantTaken(t, l, 11, 0, 0) // the log has a part of it
	wantHeld(t, r, 0, 0)
	if len(r.led()) != 0 {
		t.Error("a lane that has lost something is open")
	}
}

// TestRingIsBounded lets the one that numbers wait until something is taken.
func TestRingIsBounded(t *testing.T) {
	t.Parallel()
	for name, fill := range map[string]func(r *ring){
		"in bytes": func(r *ring) { r.push(0, 1, batchOf(1, 1, ringBytes)) },
		"in batches": func(r *ring) {
			for o := range int64(ringBatches) {
				r.push(0, o+1, batchOf(o+1, o+1, 1))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRing()
			l := openLane(r, 0)
			r.wait(t.Context()) // there is room
			fill(r)
			l.moved = time.Now().Add(time.Hour) // however slow the machine is
			ctx, over := &awaited{Context: t.Context(), begun: make(chan struct{})}, make(chan struct{})
			go func() { r.wait(ctx); close(over) }()
			select {
			case <-ctx.begun:
			case <-over:
				t.Error("nobody waits for room")
			}
			wantTaken(t, l, 1, 1, 1)
			<-over
		})
	}
}

// awaited is a context that says when somebody begins to wait.
type awaited struct {
	context.Context
	once  sync.Once
	begun chan struct{}
}

func (a *awaited) Done() <-chan struct{} {
	a.once.Do(func() { close(a.begun) })
	return a.Context.Done()
}

// TestLaneThatDoesNotMoveLosesWhatItHas keeps one leader from holding up the others.
func TestLaneThatDoesNotMoveLosesWhatItHas(t *testing.T) {
	t.Parallel()
	r := newRing()
	stuck, quick := openLane(r, 0), openLane(r, 1)
	r.push(0, 1, batchOf(1, 1, ringBytes))
	r.push(1, 1, batchOf(1, 1, 10))
	stuck.moved, quick.moved = time.Now().Add(-2*ringPatience), time.Now().Add(time.Hour)
	r.wait(t.Context())
	wantHeld(t, r, 1, 10)
	wantTaken(t, quick, 1, 1, 1)
	if told := wantTaken(t, stuck, 1, 0, 0); told.numbered != 1 {
		t.Errorf("the lane that has lost something tells %+v", told)
	}
	if led := r.led(); !slices.Equal(led, []int32{1}) {
		t.Errorf("open are %v", led)
	}
}

func TestLaneThatIsLeft(t *testing.T) {
	t.Parallel()
	r := newRing()
	before := openLane(r, 0)
	r.push(0, 1, batchOf(1, 1, 10))
	r.leave(0, before)
	wantHeld(t, r, 0, 0)
	r.push(0, 2, batchOf(2, 2, 10))
	wantHeld(t, r, 0, 0)
	now := openLane(r, 0)
	r.leave(0, before) // late
	r.push(0, 3, batchOf(3, 3, 10))
	wantTaken(t, now, 3, 3, 3)
}

// TestRingSkipsNothing lets a leader follow what a lane gives and tells, whatever happens
// meanwhile: it takes what comes next, else reads the archive as far as the lane knows.
func TestRingSkipsNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		r := newRing()
		l := r.join(0)
		var numbered, told, published int64
		push := func(n int64, here bool) {
			b := batchOf(numbered+1, numbered+n, 10*int(n))
			if !here {
				b.entries = nil
			}
			numbered += n
			told = numbered
			r.push(0, numbered, b)
		}
		follow := func() {
			b, from := l.take(published + 1)
			if len(b.entries) > 0 {
				if b.first() != published+1 {
					t.Fatalf("%d comes after %d", b.first(), published)
				}
				published = b.last()
				return
			}
			upTo := from.numbered
			if from.before > 0 {
				upTo = min(upTo, from.before)
			}
			published = max(published, upTo)
		}
		t.Repeat(map[string]func(*rapid.T){
			"number":           func(t *rapid.T) { push(rapid.Int64Range(1, 4).Draw(t, "records"), true) },
			"number unseen":    func(t *rapid.T) { push(rapid.Int64Range(1, 4).Draw(t, "records"), false) },
			"number elsewhere": func(t *rapid.T) { numbered += rapid.Int64Range(1, 4).Draw(t, "records") },
			"open":             func(*rapid.T) { l.open() },
			"close":            func(*rapid.T) { l.close() },
			"follow":           func(*rapid.T) { follow() },
			"find a part in the log": func(*rapid.T) {
				if published < told {
					published++
				}
			},
			"": func(t *rapid.T) {
				bytes := 0
				for _, b := range l.batches {
					bytes += b.bytes
				}
				if r.bytes != bytes || r.batches != len(l.batches) {
					t.Fatalf("the ring counts %d bytes and %d batches, and has %d and %d", r.bytes, r.batches, bytes, len(l.batches))
				}
			},
		})
		for range 100 {
			follow()
		}
		if published != told {
			t.Fatalf("published up to %d, and told of %d", published, told)
		}
	})
}

// TestRingSettlesWhenAllIsPublished goes by a clock of its own.
func TestRingSettlesWhenAllIsPublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRing()
		l := openLane(r, 0)
		wantSettled := func(what string, most, want time.Duration) {
			t.Helper()
			began := time.Now()
			r.settle(t.Context(), most)
			if took := time.Since(began); took != want {
				t.Errorf("%s: it settles after %v, want %v", what, took, want)
			}
		}
		wantSettled("with nothing in it", time.Second, 0)
		r.push(0, 1, batchOf(1, 1, 10))
		go func() {
			time.Sleep(3 * time.Millisecond)
			l.take(1)
			time.Sleep(4 * time.Millisecond)
			l.take(2)
		}()
		wantSettled("with a batch", time.Second, 7*time.Millisecond)
		r.push(0, 2, batchOf(2, 2, 10))
		l.take(2)
		wantSettled("with a leader that hangs", 5*time.Millisecond, 5*time.Millisecond)
		r.leave(0, l)
		wantSettled("with a leader that has gone", time.Second, 0)
	})
}
