package consumer_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/world"
)

// TestStatusSaysThatAConsumerHasHalted as soon as it has, and no longer than it has.
func TestStatusSaysThatAConsumerHasHalted(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "13", "2", "5")
	w.Drain(w.Streamer())
	add := consumer.Each(w.Add("sum"))
	run := func(rejects ...string) error {
		_, err := w.Consumer("sum", func(cfg *consumer.Config) {
			cfg.Handler = world.Rejecting(add, func() {}, rejects...)
		}).RunOnce(w.Ctx)
		return err
	}
	rejected := func(offset int) string {
		return fmt.Sprintf("sum has halted for 0 s at offset %d, which it rejects: poison: mend what rejects it, or go on without that record: "+
			"`unilog consumers skip sum 0 %[1]d`; it holds the retention back, unless it has expired", offset)
	}
	halts := func(offset int, rejects ...string) {
		t.Helper()
		if err := run(rejects...); !errors.As(err, new(*unilog.RejectedError)) {
			t.Fatalf("it does not halt: %v", err)
		}
		wantTroubles(w, "when it has halted", rejected(offset))
	}
	halts(2, "13", "5")
	halts(2, "13", "5")
	halts(4, "5") // mended, and halted again
	found, err := archive.Read(w.Ctx, w.DB, "", 0, 3, 4, 1)
	w.Must(err)
	w.Must(in.Skip(w.Ctx, w.DB, "sum", found[0], ""))
	w.Must(in.DiscardDeadLetter(w.Ctx, w.DB, "sum", 0, 4))
	wantTroubles(w, "when the record is skipped")
}

// TestStatusSaysWhyAConsumerHasHalted where no record is to blame, and none shows that it
// goes on.
func TestStatusSaysWhyAConsumerHasHalted(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	run := func() error {
		_, err := w.Consumer("sum").RunOnce(w.Ctx)
		return err
	}
	w.Must(run())
	w.Memory.SetLogID(0, "another")
	halted := run()
	if !errors.As(halted, new(*unilog.ForeignLogError)) {
		t.Fatalf("it does not halt: %v", halted)
	}
	w.Memory.SetLogID(0, w.Status().LogID)
	wantTroubles(w, "when it reads another log", "sum has halted for 0 s: "+halted.Error())
	w.Must(run())
	wantTroubles(w, "when it reads its own again")
}

func wantTroubles(w *world.World, when string, says ...string) {
	w.Helper()
	troubles := world.Steady(w.Status()).Troubles()
	if fmt.Sprint(troubles) != fmt.Sprint(says) {
		w.Errorf("%s the troubles are\n%s\nwant\n%s", when, strings.Join(troubles, "\n"), strings.Join(says, "\n"))
	}
}
