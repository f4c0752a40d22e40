package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

// sqlStreamers are the sessions that have a lock of a streamer's.
const sqlStreamers = `SELECT a.pid FROM pg_stat_activity AS a WHERE datname = current_database() AND pid IN (
	SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`

// TestLossOfPostgresIsNotTheLogs ends a leader's session during a call to the log.
func TestLossOfPostgresIsNotTheLogs(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Claim" {
			w.Memory.Intercept(nil)
			w.Exec(`SELECT pg_terminate_backend(pid, 300000) FROM (` + sqlStreamers + `) AS s`)
		}
		return do(context.WithoutCancel(ctx)) // however late
	})
	var log *unilog.LogError
	if _, err := s.RunOnce(w.Ctx); err == nil || errors.As(err, &log) {
		t.Errorf("the streamer says %v, want that Postgres was lost", err)
	}
	w.Commit("1")
	w.WantCount("published afterwards", w.Drain(s), 1)
}

// TestLongCallKeepsTheLead lets a batch take as long as it takes until both sessions
// have twice said that they live.
func TestLongCallKeepsTheLead(t *testing.T) {
	t.Parallel()
	undisturbed(t, callForLong)
}

// callForLong says whether no session has ended, as one does if the machine makes it
// silent for too long. Without signs of life each of them would.
func callForLong(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.SessionTimeout = 4 * time.Second })
	if _, err := w.Patiently(s.RunOnce); err != nil { // it leads
		return false
	}
	live := true
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Append" {
			for range 2 {
				for i, session := range s.Sessions() {
					live = live && awaitSign(w, i, session.PgConn().PID())
				}
			}
		}
		return do(context.WithoutCancel(ctx)) // however late
	})
	w.CommitMany(100)
	n, err := s.RunOnce(w.Ctx)
	if !live || err != nil || !isTerm(w, 1) || world.Query[int](w, `SELECT epoch FROM unilog.partitions`) != 1 {
		return false
	}
	w.WantCount("published", n, 100)
	return true
}

// awaitSign waits until a session says that it lives, and returns false if it has ended.
func awaitSign(w *world.World, which int, pid uint32) (lives bool) {
	w.Helper()
	heard := func() *time.Time {
		return world.Query[*time.Time](w, `SELECT max(state_change) FROM pg_stat_activity WHERE pid = $1`, pid)
	}
	before := heard()
	w.AwaitThat(fmt.Sprintf("session %d to say that it lives", which), func() bool {
		now := heard()
		lives = before != nil && now != nil
		return !lives || now.After(*before)
	})
	return lives
}
