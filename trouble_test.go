package unilog_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

func TestStatusSaysWhyTheStreamerFails(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	// It looks after the log in its first call only: else, on a slow machine, another.
	s := n.farStreamer(func(cfg *unilog.StreamerConfig) { *cfg = unilog.WithUpkeepPause(*cfg, time.Hour) })
	n.drain(s)
	if got := n.status(); got.Trouble != "" || got.TroubledFor != 0 {
		t.Fatalf("before it failed: %q for %v s", got.Trouble, got.TroubledFor)
	}

	n.commit("1")
	n.redis.Refuse(true)
	n.redis.Cut()
	fail := func(says string) *unilog.Status {
		t.Helper()
		if _, err := s.RunOnce(n.ctx); err == nil {
			t.Fatal("it got through")
		}
		got := n.status()
		if !strings.Contains(got.Trouble, says) || len(got.Troubles()) != 1 || !strings.Contains(got.Troubles()[0], got.Trouble) {
			t.Errorf("the trouble is %q in %q, want %q", got.Trouble, got.Troubles(), says)
		}
		return got
	}
	fail("append to the log: ")
	began := query[time.Time](n.world, `SELECT troubled_at FROM log_partitions`)
	fail("read the log's head: ")
	if now := query[time.Time](n.world, `SELECT troubled_at FROM log_partitions`); !now.Equal(began) {
		t.Errorf("it began at %v, and then at %v", began, now)
	}

	n.redis.Refuse(false)
	n.insist(s.RunOnce, func() {})
	if got := n.status(); got.Trouble != "" || got.TroubledFor != 0 || len(got.Troubles()) != 0 {
		t.Errorf("after a success: %q, %q", got.Trouble, got.Troubles())
	}
	s.Close()
	n.check(1)
}

func TestStatusSaysThatTheLogIsSilent(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	s := n.farStreamer()
	n.commit("1")
	hole := n.redis.BlackholeAt(proxy.ToServer, proxy.Containing("EVALSHA"), proxy.Both)
	n.meet(hole, hole, s.RunOnce)
	if got := n.status(); !strings.Contains(got.Trouble, "the log") {
		t.Errorf("the trouble is %q", got.Trouble)
	}
	heal(n.redis)
	n.check(1)
	if got := n.status(); got.Trouble != "" {
		t.Errorf("after another leader's success: %q", got.Trouble)
	}
}

// The leader before fails late, when the next one leads and does well.
func TestZombieNotesNoTrouble(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	next := n.streamer()
	zombie := n.farStreamer(func(cfg *unilog.StreamerConfig) {
		cfg.Hooks.AfterNumber = func(context.Context, []unilog.Entry) error {
			n.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			n.insist(next.RunOnce, func() {})
			n.redis.Refuse(true)
			n.redis.Cut()
			return nil
		}
	})
	n.commit("1")
	if _, err := zombie.RunOnce(n.ctx); err == nil || !strings.Contains(err.Error(), "append to the log") {
		t.Fatalf("the zombie's error is %v", err)
	}
	if got := n.status(); got.Trouble != "" || got.Leader == nil {
		t.Errorf("the zombie noted %q", got.Trouble)
	}
	next.Close()
	n.check(1)
}

// That nothing can be noted makes nothing worse.
func TestTroubleThatCannotBeNoted(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	s := n.farStreamer()
	n.exec(`ALTER TABLE log_partitions ADD CONSTRAINT no_note CHECK (trouble IS NULL)`)
	n.redis.Refuse(true)
	n.redis.Cut()
	if _, err := s.RunOnce(n.ctx); err == nil || !strings.Contains(err.Error(), "read the log's head") {
		t.Errorf("RunOnce returned %v", err)
	}
	n.redis.Refuse(false)
	n.commit("1")
	n.insist(s.RunOnce, func() {})

	s.Close()
	n.exec(`ALTER TABLE log_partitions DROP CONSTRAINT no_note`)
	n.exec(`UPDATE log_partitions SET trouble = 'old'`)
	n.exec(`ALTER TABLE log_partitions ADD CONSTRAINT no_end CHECK (trouble IS NOT NULL)`)
	n.commit("1")
	n.drain(s)
	s.Close()
	n.check(2)
}

func TestAStreamerWithoutTroubleNotesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	notes := &notes{}
	config := w.db.Config().Copy()
	config.ConnConfig.Tracer = notes
	db, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	t.Cleanup(db.Close)
	s := w.streamer(func(cfg *unilog.StreamerConfig) { cfg.DB = db })
	for range 3 {
		w.commit("1")
		w.drain(s)
	}
	s.Close()
	if notes.statements == 0 || len(notes.written) > 0 {
		t.Errorf("among %d statements are %q", notes.statements, notes.written)
	}
	w.consume(w.consumer("sum"))
}

// notes are the statements that write of troubles.
type notes struct {
	mu         sync.Mutex
	statements int
	written    []string
}

func (n *notes) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.statements++
	if slices.Contains([]string{unilog.SQLTrouble, unilog.SQLNoTrouble}, q.SQL) {
		n.written = append(n.written, q.SQL)
	}
	return ctx
}

func (n *notes) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
