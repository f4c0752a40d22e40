package logtest_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
)

func TestMemoryIsFull(t *testing.T) {
	t.Parallel()
	log := ten(t)
	log.SetLimit(12)
	other := unilog.Term{Partition: 1, LogID: "ours", Epoch: 1, Partitions: 2}
	_, err := log.Append(t.Context(), other, entries(1, 1, 2))
	must(t, err)
	if _, err := log.Append(t.Context(), term, entries(0, 11, 11)); !errors.Is(err, unilog.ErrLogFull) {
		t.Errorf("with twelve entries of twelve it says %v", err)
	}
	if _, err := log.Append(t.Context(), term, entries(0, 10, 11)); !errors.Is(err, unilog.ErrAlreadyAppended) {
		t.Errorf("what it has already: %v", err)
	}
	_, err = log.Claim(t.Context(), unilog.Term{LogID: "ours", Epoch: 2, Partitions: 1})
	must(t, err)
	must(t, log.Trim(t.Context(), 0, 1))
	next := unilog.Term{LogID: "ours", Epoch: 2, Partitions: 1}
	if head, err := log.Append(t.Context(), next, entries(0, 11, 11)); err != nil || head != 11 {
		t.Errorf("after a trim: head %d, %v", head, err)
	}
	if n := len(log.Entries(0)); n != 10 {
		t.Errorf("it holds %d entries", n)
	}
	log.SetLimit(0)
	_, err = log.Append(t.Context(), next, entries(0, 12, 20))
	must(t, err)
}
