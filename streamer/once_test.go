package streamer_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/world"
)

// TestRunOnceWhileAnotherStreamerNumbers keeps the lock of the one that numbers, as a
// session does that was lost and has not ended: a leader has then nothing to publish, but
// not nothing to do.
func TestRunOnceWhileAnotherStreamerNumbers(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1")
	other := w.Begin()
	_, err := other.Exec(w.Ctx, `SELECT pg_advisory_xact_lock(`+locks.Staged+`, $1)`, locks.Numberer)
	w.Must(err)
	s := w.Streamer()
	for range 2 {
		if n, err := w.Timely(s.RunOnce); n != 0 || !errors.Is(err, unilog.ErrStandby) {
			t.Errorf("it has published %d, and says %v", n, err)
		}
	}
	w.Must(other.Rollback(w.Ctx))
	w.WantCount("published when it numbers", w.Drain(s), 1)
	w.Consume(w.Consumer("sum"))
}
