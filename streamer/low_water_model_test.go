package streamer

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// staging is a model of the staging table: transactions that draw ids, and commit or
// roll back in any order, some of them prepared before, and a streamer that numbers.
type staging struct {
	low  lowWater
	walk int64

	last, clock int64
	open        []*writer
	names       int
	staged      map[int64]*writer // committed, and not numbered
	numbered    map[int64]*writer
}

// writer is a transaction.
type writer struct {
	name     string
	ids      []int64
	began    int64
	ended    int64
	prepared bool
}

func (s *staging) begin() {
	s.names++
	s.clock++
	s.open = append(s.open, &writer{name: fmt.Sprintf("3/%d", s.names), began: s.clock})
}

func (s *staging) pick(t *rapid.T) (w *writer, i int) {
	if len(s.open) == 0 {
		t.Skip("none is open")
	}
	i = rapid.IntRange(0, len(s.open)-1).Draw(t, "transaction")
	return s.open[i], i
}

func (s *staging) stage(t *rapid.T) {
	w, _ := s.pick(t)
	if w.prepared {
		t.Skip("it stages nothing more")
	}
	for range rapid.IntRange(1, 3).Draw(t, "records") {
		s.last++
		w.ids = append(w.ids, s.last)
	}
}

// write is a transaction that is soon over.
func (s *staging) write(*rapid.T) {
	s.begin()
	s.last++
	w := s.open[len(s.open)-1]
	w.ids = append(w.ids, s.last)
	s.endAt(len(s.open)-1, true)
}

func (s *staging) end(t *rapid.T, commit bool) {
	_, i := s.pick(t)
	s.endAt(i, commit)
}

func (s *staging) endAt(i int, commit bool) {
	w := s.open[i]
	s.open = slices.Delete(s.open, i, i+1)
	s.clock++
	w.ended = s.clock
	for _, id := range w.ids {
		if commit {
			s.staged[id] = w
		}
	}
}

// prepare gives a transaction another name, as PREPARE TRANSACTION does.
func (s *staging) prepare(t *rapid.T) {
	w, _ := s.pick(t)
	s.names++
	w.name, w.prepared = fmt.Sprintf("-1/%d", s.names), true
}

// look finds out who has the table locked.
func (s *staging) look() {
	var names []string
	for _, w := range s.open {
		if len(w.ids) > 0 {
			names = append(names, w.name)
		}
	}
	s.low.saw(s.last, names)
}

// number is what the statement does.
func (s *staging) number(t *rapid.T, after, upTo int64, limit int) (moved int, last int64) {
	var ids []int64
	for id := range s.staged {
		if id > after && id <= upTo {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	for _, id := range ids[:min(limit, len(ids))] {
		w := s.staged[id]
		for other, before := range s.staged {
			if before.ended < w.began {
				t.Fatalf("%d is numbered before %d, which was committed before its transaction began", id, other)
			}
		}
		moved, last = moved+1, id
		s.numbered[id] = w
		delete(s.staged, id)
	}
	return moved, last
}

func (s *staging) search(t *rapid.T, limit int) (moved int) {
	for {
		after, upTo, due := s.low.due()
		if !due {
			return moved
		}
		found, _ := s.number(t, after, upTo, limit)
		if moved += found; found > 0 {
			return moved
		}
		s.low.searched(upTo)
	}
}

// step is that of the numberer; between looks all that can happen meanwhile may.
func (s *staging) step(t *rapid.T, limit int, meanwhile func()) {
	after, upTo := s.low.start(s.walk), int64(math.MaxInt64)
	if after > s.low.low {
		s.look()
		meanwhile()
		if s.search(t, limit) > 0 {
			return
		}
		meanwhile()
		after, upTo = s.low.high, s.low.last
	}
	moved, last := s.number(t, after, upTo, limit)
	if moved == 0 {
		last = upTo
	}
	s.low.passed(last, moved)
}

// TestLowWaterLosesNothing lets transactions and steps of a numberer come in any order.
// Each record that was committed is numbered in the end, after what was committed before
// its transaction began; and the mark gets as far as the last id.
func TestLowWaterLosesNothing(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := &staging{walk: rapid.Int64Range(0, 2).Draw(t, "walk"), staged: map[int64]*writer{}, numbered: map[int64]*writer{}}
		change := func() {
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				switch what := rapid.IntRange(0, 3).Draw(t, "change"); {
				case what == 0:
					s.write(t)
				case len(s.open) == 0:
				case what == 1:
					if w := s.open[0]; !w.prepared {
						s.last++
						w.ids = append(w.ids, s.last)
					}
				default:
					s.end(t, true)
				}
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"begin":     func(*rapid.T) { s.begin() },
			"write":     s.write,
			"write two": func(t *rapid.T) { s.write(t); s.write(t) },
			"stage":     s.stage,
			"commit":    func(t *rapid.T) { s.end(t, true) },
			"roll back": func(t *rapid.T) { s.end(t, false) },
			"prepare":   s.prepare,
			"look":      func(*rapid.T) { s.look() },
			"step":      func(t *rapid.T) { s.step(t, rapid.IntRange(1, 5).Draw(t, "limit"), change) },
			"search":    func(t *rapid.T) { s.search(t, rapid.IntRange(1, 5).Draw(t, "limit")) },
			"": func(t *rapid.T) {
				for id := range s.staged {
					if id <= s.low.low {
						t.Fatalf("%d is staged, and the mark is %d", id, s.low.low)
					}
				}
			},
		})
		for len(s.open) > 0 {
			s.end(t, true)
		}
		for range 2 * (s.last + 2) {
			s.look()
			s.search(t, 5)
			s.step(t, 5, func() {})
		}
		if len(s.staged) > 0 || s.low.low != s.last || len(s.low.segments) > 0 {
			t.Fatalf("%d are left, the mark is %d of %d, with %d segments", len(s.staged), s.low.low, s.last, len(s.low.segments))
		}
	})
}

// TestLowWaterOfLongTransactions lets transactions stay open while others come and go:
// what is searched again and again is what they may have left.
func TestLowWaterOfLongTransactions(t *testing.T) {
	t.Parallel()
	var low lowWater
	last := int64(0)
	pass := func(open ...string) {
		last += 100
		low.saw(last, open)
		low.passed(last, 100)
	}
	pass()
	if low.low != 100 {
		t.Fatalf("without transactions the mark is %d", low.low)
	}
	pass("1/1")
	for i := range 50 {
		pass("1/1", fmt.Sprintf("2/%d", i))
	}
	for { // what the short ones have left
		_, upTo, due := low.due()
		if !due {
			break
		}
		low.searched(upTo)
	}
	if low.low != 100 || low.high != last || len(low.segments) > 3 {
		t.Errorf("the mark is %d, searched is up to %d of %d, in %d segments", low.low, low.high, last, len(low.segments))
	}
	low.saw(last, []string{"-1/77"}) // it is prepared, the last of the short ones has ended
	after, upTo, due := low.due()
	for ; due; after, upTo, due = low.due() {
		if after < 100 {
			t.Errorf("searched is after %d", after)
		}
		low.searched(upTo)
	}
	if low.low != 100 {
		t.Errorf("the mark is %d while it is prepared", low.low)
	}
	low.saw(last, nil)
	for _, upTo, due = low.due(); due; _, upTo, due = low.due() {
		low.searched(upTo)
	}
	if low.low != last || len(low.segments) > 0 {
		t.Errorf("in the end the mark is %d of %d", low.low, last)
	}
}
