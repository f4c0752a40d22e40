package streamer_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
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

// TestManyAppendsKeepTheLead publishes a batch in parts, each of them short, for
// longer than a leader may be silent.
func TestManyAppendsKeepTheLead(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var heard []time.Time
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithAppendRecords(*cfg, 10)
	})
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Append" {
			heard = append(heard, lastLook(w))
			s.Age(await.Patience / 3) // it takes a part of the time that the leader may be silent
		}
		return do(ctx)
	})
	w.CommitMany(100)
	n, err := s.RunOnce(w.Ctx)
	w.Must(err)
	w.WantCount("published", n, 100)
	w.WantCount("parts", len(heard), 10)
	for i := 1; i < len(heard); i++ {
		if !heard[i].After(heard[i-1]) {
			t.Errorf("part %d of the batch is appended, and Postgres has heard nothing since part %d", i+1, i)
		}
	}
	w.WantCount("terms", int(world.Query[int64](w, `SELECT epoch FROM log_partitions`)), 1)
}
