package unilog_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
)

// TestLossOfPostgresIsNotTheLogs ends a leader's session, which it notices with a call
// to the log.
func TestLossOfPostgresIsNotTheLogs(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.commit("1")
	w.drain(s)
	w.exec(`SELECT pg_terminate_backend(pid, 300000) FROM pg_stat_activity WHERE pid = $1`, w.status().Leader.PID)
	s.Unseen()
	var log *unilog.LogError
	if err := s.Upkeep(w.ctx); err == nil || errors.As(err, &log) {
		t.Errorf("the upkeep says %v, want that Postgres was lost", err)
	}
}
