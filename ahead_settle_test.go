package unilog

import "testing"

// A batch that is numbered ahead may be settled before the leader looks who
// stages, and once more afterwards. The second time must not move the mark: its
// snapshot was taken when less was settled.
func TestBatchAheadMovesTheLowWaterOnce(t *testing.T) {
	t.Parallel()
	a := &ahead{cancel: func() {}, done: make(chan struct{}), entries: []Entry{{Offset: 1}}, last: 10}
	close(a.done)
	l := &leadership{ahead: a, low: lowWater{settled: 5}}
	l.settle()
	if l.low.mark != 5 || l.numbered != 1 {
		t.Errorf("the mark is %d, want 5; numbered up to %d, want 1", l.low.mark, l.numbered)
	}
	l.low.settled = 20
	if l.settle(); l.low.mark != 5 {
		t.Errorf("the mark is %d after a later look, want 5", l.low.mark)
	}
}
