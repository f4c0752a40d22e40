package streamer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

// frozenConn is a connection whose reader stops in the middle of an answer.
type frozenConn struct {
	net.Conn
	isFrozen *atomic.Bool
	thaw     <-chan struct{}
	read     int
}

func (c *frozenConn) Read(p []byte) (int, error) {
	if c.isFrozen.Load() && c.read > 20_000 {
		<-c.thaw
		return 0, net.ErrClosed
	}
	n, err := c.Conn.Read(p)
	if c.isFrozen.Load() {
		c.read += n
	}
	return n, err
}

// A frozen process sees no deadlines either.
func (*frozenConn) SetDeadline(time.Time) error     { return nil }
func (*frozenConn) SetReadDeadline(time.Time) error { return nil }

// TestLeaderFrozenWhileItReadsIsReplaced freezes a leader while Postgres sends
// it a batch, where the timeouts of a session do not run.
func TestLeaderFrozenWhileItReadsIsReplaced(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var isFrozen atomic.Bool
	thaw := make(chan struct{})
	config := w.DB.Config().Copy()
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return &frozenConn{Conn: c, isFrozen: &isFrozen, thaw: thaw}, err
	}
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	t.Cleanup(db.Close)
	leader := w.Streamer(func(cfg *streamer.Config) { cfg.DB = db })
	w.Commit("1")
	w.Drain(leader)
	tx := w.Begin()
	pad := strings.Repeat("x", 2000)
	for range 1500 {
		r := world.Record("0")
		r.Data = json.RawMessage(`{"amount": 0, "pad": "` + pad + `"}`)
		w.Must(unilog.Stage(w.Ctx, tx, r))
	}
	w.Must(tx.Commit(w.Ctx))
	isFrozen.Store(true)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = leader.RunOnce(context.WithoutCancel(w.Ctx))
	}()
	next := w.Streamer()
	w.Await("another streamer to publish", func() string {
		n, err := next.RunOnce(w.Ctx)
		if n > 0 {
			return ""
		}
		if !errors.Is(err, unilog.ErrStandby) {
			w.Must(err)
		}
		return fmt.Sprint(err)
	})
	close(thaw)
	world.Receive(w, "the frozen leader to wake up", ended)
	w.Drain(next)
	w.WantCount("stream entries", len(w.Offsets()), 1501)
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

// TestIdleLeaderTakesTheLeadAgain ends sessions of a leader between two calls of
// RunOnce, whose caller need not know of sessions.
func TestIdleLeaderTakesTheLeadAgain(t *testing.T) {
	t.Parallel()
	const silent = `SET idle_session_timeout = 1`
	its := func(s *streamer.Streamer) []*pgx.Conn { return s.Sessions(0) }
	all := func(s *streamer.Streamer) []*pgx.Conn { return append(s.Sessions(0), s.Sessions(1)...) }
	for name, c := range map[string]struct {
		partitions int
		lost       func(s *streamer.Streamer) []*pgx.Conn
		end        string
		age        time.Duration
	}{
		"ended by somebody":            {1, its, `SELECT pg_terminate_backend(pg_backend_pid())`, 0},
		"silent for too long":          {1, its, silent, 0},
		"when it looks after the log":  {1, its, silent, await.Patience / 2},
		"of several partitions":        {2, all, silent, 0},
		"of several, when it looks":    {2, all, silent, await.Patience / 2},
		"the one that numbers":         {2, func(s *streamer.Streamer) []*pgx.Conn { return s.Sessions(0)[1:] }, silent, 0},
		"all but the one that numbers": {2, func(s *streamer.Streamer) []*pgx.Conn { return s.Sessions(0)[:1] }, silent, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.Setup(t)
			w.Repartition(c.partitions, 1)
			s := w.Streamer(func(cfg *streamer.Config) {
				*cfg = streamer.WithUpkeepPause(*cfg, time.Nanosecond)
				cfg.Observer.Failed = func(err error) { w.Errorf("the observer hears of %v", err) }
			})
			w.CommitMany(2)
			w.Drain(s)
			epoch := s.Term().Epoch
			for round := range 2 {
				for _, session := range c.lost(s) {
					_, _ = session.Exec(w.Ctx, c.end) // the session may end before its answer
					pid := session.PgConn().PID()
					world.AwaitQuery(w, "the end of the session", 0, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid)
				}
				s.Age(c.age)
				w.CommitMany(2)
				n, err := s.RunOnce(w.Ctx)
				w.Must(err)
				w.WantCount("published", n, 2)
				if now := s.Term().Epoch; now != epoch+1 {
					t.Errorf("round %d: the epoch is %d, and was %d", round, now, epoch)
				}
				epoch = s.Term().Epoch
				w.Drain(s) // what is not recorded as published is sent again by a new leader
			}
		})
	}
}
