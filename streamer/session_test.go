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
		return do(ctx)
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
	w := world.Setup(t)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.SessionTimeout = 4 * time.Second })
	w.Drain(s)
	heard := func(pid uint32) time.Time {
		return world.Query[time.Time](w, `SELECT state_change FROM pg_stat_activity WHERE pid = $1`, pid)
	}
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Append" {
			for range 2 {
				for i, session := range s.Sessions() {
					pid := session.PgConn().PID()
					before := heard(pid)
					w.AwaitThat(fmt.Sprintf("session %d to say that it lives", i), func() bool { return heard(pid).After(before) })
				}
			}
		}
		return do(context.WithoutCancel(ctx)) // however late
	})
	w.CommitMany(100)
	n, err := s.RunOnce(w.Ctx)
	w.Must(err)
	w.WantCount("published", n, 100)
	w.WantCount("terms", int(world.Query[int64](w, `SELECT epoch FROM unilog.partitions`)), 1)
}
