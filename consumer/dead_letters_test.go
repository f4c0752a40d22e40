package consumer_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

func TestDeadLettersAreRetriedOrDiscarded(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1")
	w.CommitBodies("2", "4")
	w.Commit("8")
	w.Drain(w.Streamer())
	poisoned := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "2", "4")
		cfg.ParkRejected = true
	})
	w.Consume(poisoned)
	letters, err := consumer.DeadLetters(w.Ctx, w.DB, "sum")
	w.Must(err)
	if len(letters) != 2 || letters[0].Offset != 2 || letters[0].Reason != "poison" || !reflect.DeepEqual(letters[1].Record, world.BodyRecord("4")) {
		t.Fatalf("the dead letters are %+v", letters)
	}
	if others, err := consumer.DeadLetters(w.Ctx, w.DB, "another"); err != nil || len(others) != 0 {
		t.Errorf("another has %v, %v", others, err)
	}

	good := consumer.Each(w.Add("sum"))
	if err := consumer.RetryDeadLetter(w.Ctx, w.DB, "sum", 0, 2, world.Rejecting(good, func() {}, "2")); err == nil || err.Error() != "poison" {
		t.Errorf("rejected again, it says %v", err)
	}
	w.WantTotal("sum", "9")
	w.Must(consumer.RetryDeadLetter(w.Ctx, w.DB, "sum", 0, 2, good))
	w.WantTotal("sum", "11")
	w.Must(consumer.DiscardDeadLetter(w.Ctx, w.DB, "sum", 0, 3))
	w.WantTotal("sum", "11")
	for what, err := range map[string]error{
		"retry what was retried":     consumer.RetryDeadLetter(w.Ctx, w.DB, "sum", 0, 2, good),
		"retry what was discarded":   consumer.RetryDeadLetter(w.Ctx, w.DB, "sum", 0, 3, good),
		"discard what was discarded": consumer.DiscardDeadLetter(w.Ctx, w.DB, "sum", 0, 3),
		"discard what never was":     consumer.DiscardDeadLetter(w.Ctx, w.DB, "sum", 0, 1),
	} {
		if !errors.Is(err, consumer.ErrNoDeadLetter) {
			t.Errorf("%s: %v", what, err)
		}
	}
	w.CheckAudit() // counts the discarded one still
}
