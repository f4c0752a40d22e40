package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

func TestStatusSaysWhyTheStreamerFails(t *testing.T) {
	t.Parallel()
	undisturbed(t, failForAWhile)
}

// failForAWhile says whether each call failed where it should, and what it notes was
// noted: that is a courtesy, for which a streamer takes no more than a second.
func failForAWhile(t *testing.T) (undisturbed bool) {
	t.Helper()
	n := world.SetupNetwork(t)
	// It looks after the log in its first call only: else, on a slow machine, another.
	s := n.FarStreamer(func(cfg *streamer.Config) { *cfg = streamer.WithUpkeepPause(*cfg, time.Hour) })
	n.Drain(s)
	if got := n.Status(); got.Trouble != "" || got.TroubledFor != 0 {
		t.Fatalf("before it failed: %q for %v s", got.Trouble, got.TroubledFor)
	}

	n.Commit("1")
	n.Redis.Refuse(true)
	n.Redis.Cut()
	fail := func(says string) (noted bool) {
		t.Helper()
		_, err := s.RunOnce(n.Ctx)
		if err == nil {
			t.Fatal("it got through")
		}
		got := n.Status()
		if !strings.Contains(got.Trouble, says) {
			t.Logf("the trouble is %q after %v, want %q", got.Trouble, err, says)
			return false
		}
		if len(got.Troubles()) != 1 || !strings.Contains(got.Troubles()[0], got.Trouble) {
			t.Errorf("the trouble is %q in %q", got.Trouble, got.Troubles())
		}
		return true
	}
	if !fail("append to the log: ") {
		return false
	}
	began := world.Query[time.Time](n.World, `SELECT troubled_at FROM unilog.partitions`)
	if !fail("read the log's head: ") {
		return false
	}
	if now := world.Query[time.Time](n.World, `SELECT troubled_at FROM unilog.partitions`); !now.Equal(began) {
		t.Errorf("it began at %v, and then at %v", began, now)
	}

	n.Redis.Refuse(false)
	n.Insist(s.RunOnce, func() {})
	if got := n.Status(); got.Trouble != "" || got.TroubledFor != 0 || len(got.Troubles()) != 0 {
		t.Logf("after a success: %q, %q", got.Trouble, got.Troubles())
		return false
	}
	s.Close()
	n.Check(1)
	return true
}

func TestStatusSaysThatTheLogIsSilent(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	s := n.FarStreamer()
	n.Commit("1")
	hole := n.Redis.BlackholeAt(proxy.ToServer, proxy.Containing("EVALSHA"), proxy.Both)
	n.Meet(hole, hole, s.RunOnce)
	n.Await("the trouble to be noted", func() string {
		got := n.Status()
		if strings.Contains(got.Trouble, "the log") {
			return ""
		}
		_, err := s.RunOnce(n.Ctx) // once more: to note it is a courtesy, for which it takes a second
		return fmt.Sprintf("%q after %v", got.Trouble, err)
	})
	world.Heal(n.Redis)
	s.Close() // it would go on numbering
	n.Check(1)
	n.Await("the trouble to be over", func() string {
		got := n.Status()
		if got.Trouble != "" {
			n.Settle() // another leader, as that one has had too little time
		}
		return got.Trouble
	})
}

// The leader before fails late, when the next one leads and does well.
func TestZombieNotesNoTrouble(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	next := n.Streamer()
	isZombie := false
	zombie := n.FarStreamer(func(cfg *streamer.Config) {
		cfg.Hooks.AfterNumber = func(context.Context, []unilog.Entry) error {
			isZombie = true
			n.Exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
			n.Insist(next.RunOnce, func() {})
			n.Redis.Refuse(true)
			n.Redis.Cut()
			return nil
		}
	})
	n.Commit("1")
	var err error
	n.Await("it to lead as far as that", func() string {
		if _, err = zombie.RunOnce(n.Ctx); !isZombie && (world.IsSlow(err) || errors.Is(err, unilog.ErrStandby)) {
			return err.Error()
		}
		return ""
	})
	if err == nil || !strings.Contains(err.Error(), "append to the log") {
		t.Fatalf("the zombie's error is %v", err)
	}
	if got := n.Status(); got.Trouble != "" || got.Leader == nil {
		t.Errorf("the zombie noted %q", got.Trouble)
	}
	next.Close()
	n.Check(1)
}

// That nothing can be noted makes nothing worse.
func TestTroubleThatCannotBeNoted(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	s := n.FarStreamer()
	n.Exec(`ALTER TABLE unilog.partitions ADD CONSTRAINT no_note CHECK (trouble IS NULL)`)
	n.Redis.Refuse(true)
	n.Redis.Cut()
	if _, err := n.Timely(s.RunOnce); err == nil || !strings.Contains(err.Error(), "read the log's head") {
		t.Errorf("RunOnce returned %v", err)
	}
	n.Redis.Refuse(false)
	n.Commit("1")
	n.Insist(s.RunOnce, func() {})

	s.Close()
	n.Exec(`ALTER TABLE unilog.partitions DROP CONSTRAINT no_note`)
	n.Exec(`UPDATE unilog.partitions SET trouble = 'old'`)
	n.Exec(`ALTER TABLE unilog.partitions ADD CONSTRAINT no_end CHECK (trouble IS NOT NULL)`)
	n.Commit("1")
	n.Drain(s)
	s.Close()
	n.Check(2)
}

func TestAStreamerWithoutTroubleNotesNothing(t *testing.T) {
	t.Parallel()
	undisturbed(t, streamWithoutTrouble)
}

func streamWithoutTrouble(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	notes := &notes{}
	config := w.DB.Config().Copy()
	config.ConnConfig.Tracer = notes
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, db)
	undisturbed = true
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.DB = db
		cfg.Observer.Failed = func(err error) { undisturbed = undisturbed && !world.IsSlow(err) }
	})
	for range 3 {
		w.Commit("1")
		w.Drain(s)
	}
	s.Close()
	if undisturbed && (notes.statements == 0 || len(notes.written) > 0) {
		t.Errorf("among %d statements are %q", notes.statements, notes.written)
	}
	w.Consume(w.Consumer("sum"))
	return undisturbed
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
	if slices.Contains([]string{streamer.SQLTrouble, streamer.SQLNoTrouble}, q.SQL) {
		n.written = append(n.written, q.SQL)
	}
	return ctx
}

func (n *notes) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
