package streamer_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
)

// TestLossOfPostgresIsNotTheLogs ends a leader's session, which it notices with a call
// to the log.
func TestLossOfPostgresIsNotTheLogs(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	w.Exec(`SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity WHERE pid = $1`, w.Status().Leader.PID)
	s.Unseen()
	var log *unilog.LogError
	if err := s.Upkeep(w.Ctx); err == nil || errors.As(err, &log) {
		t.Errorf("the upkeep says %v, want that Postgres was lost", err)
	}
}
