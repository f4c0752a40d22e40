package unilog_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
)

func TestDeadLettersAreRetriedOrDiscarded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2", "4", "8")
	w.drain(w.streamer())
	poisoned := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Handler = rejecting(cfg.Handler, func() {}, "2", "4")
		cfg.ParkRejected = true
	})
	w.consume(poisoned)
	letters, err := unilog.DeadLetters(w.ctx, w.db, "sum")
	w.must(err)
	if len(letters) != 2 || letters[0].Offset != 2 || letters[0].Reason != "poison" || string(letters[1].Data) != `{"amount": 4}` {
		t.Fatalf("the dead letters are %+v", letters)
	}
	if others, err := unilog.DeadLetters(w.ctx, w.db, "another"); err != nil || len(others) != 0 {
		t.Errorf("another has %v, %v", others, err)
	}

	good := unilog.Each(w.add("sum"))
	if err := unilog.RetryDeadLetter(w.ctx, w.db, "sum", 0, 2, rejecting(good, func() {}, "2")); err == nil || err.Error() != "poison" {
		t.Errorf("rejected again, it says %v", err)
	}
	w.wantTotal("sum", "9")
	w.must(unilog.RetryDeadLetter(w.ctx, w.db, "sum", 0, 2, good))
	w.wantTotal("sum", "11")
	w.must(unilog.DiscardDeadLetter(w.ctx, w.db, "sum", 0, 3))
	w.wantTotal("sum", "11")
	for what, err := range map[string]error{
		"retry what was retried":     unilog.RetryDeadLetter(w.ctx, w.db, "sum", 0, 2, good),
		"retry what was discarded":   unilog.RetryDeadLetter(w.ctx, w.db, "sum", 0, 3, good),
		"discard what was discarded": unilog.DiscardDeadLetter(w.ctx, w.db, "sum", 0, 3),
		"discard what never was":     unilog.DiscardDeadLetter(w.ctx, w.db, "sum", 0, 1),
	} {
		if !errors.Is(err, unilog.ErrNoDeadLetter) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.checkAudit() // counts the discarded one still
}
