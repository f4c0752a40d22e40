package streamer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
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

// frozenConn is a connection whose reader stops in the middle of an answer, after so
// many bytes.
type frozenConn struct {
	net.Conn
	isFrozen *atomic.Bool
	thaw     <-chan struct{}
	read     atomic.Int64 // pgx closes a connection in a goroutine, which reads, too
}

const frozenAfter = 20_000

func (c *frozenConn) Read(p []byte) (int, error) {
	if !c.isFrozen.Load() {
		return c.Conn.Read(p)
	}
	left := frozenAfter - c.read.Load()
	if left <= 0 {
		<-c.thaw
		return 0, net.ErrClosed
	}
	// One call could have it all, if who writes is quick.
	n, err := c.Conn.Read(p[:min(int64(len(p)), left)])
	c.read.Add(int64(n))
	return n, err
}

// A frozen process sees no deadlines either.
func (*frozenConn) SetDeadline(time.Time) error     { return nil }
func (*frozenConn) SetReadDeadline(time.Time) error { return nil }

// TestLeaderFrozenWhileItReadsIsReplaced freezes a leader while Postgres sends
// it a batch, where the timeouts of a session do not run. Its other session has the locks
// by which it is seen to lead, and may have ended before.
func TestLeaderFrozenWhileItReadsIsReplaced(t *testing.T) {
	t.Parallel()
	for name, ended := range map[string]bool{"with its locks": false, "without": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.Setup(t)
			f := freezeWhileItReads(w)
			if ended {
				world.Query[bool](w, `SELECT pg_terminate_backend($1, 300000)`, f.elected)
			}
			next := w.Streamer()
			w.Await("another streamer to publish", func() string {
				n, err := next.RunOnce(w.Ctx)
				if n > 0 {
					return ""
				}
				return fmt.Sprint(err)
			})
			f.wakeUp()
			world.Receive(w, "the frozen leader to wake up", f.ended)
			w.Drain(next)
			w.WantCount("stream entries", len(w.Offsets()), 1501)
		})
	}
}

// frozen is a leader that is frozen.
type frozen struct {
	elected uint32 // the session with the locks
	wakeUp  func()
	ended   chan struct{} // closed when the leader, awake, has given up
}

func freezeWhileItReads(w *world.World) frozen {
	w.Helper()
	var isFrozen atomic.Bool
	thaw := make(chan struct{})
	config := w.DB.Config().Copy()
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		return &frozenConn{Conn: c, isFrozen: &isFrozen, thaw: thaw}, err
	}
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(w, db)
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
	f := frozen{leader.Sessions()[0].PgConn().PID(), sync.OnceFunc(func() { close(thaw) }), make(chan struct{})}
	isFrozen.Store(true)
	go func() {
		defer close(f.ended)
		_, _ = leader.RunOnce(context.WithoutCancel(w.Ctx))
	}()
	w.Cleanup(func() { f.wakeUp(); <-f.ended }) // before the leader is closed, also when the test has failed
	w.AwaitTrue("the server to wait for the frozen leader", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event = 'ClientWrite')`)
	return f
}

// TestIdleLeaderTakesTheLeadAgain ends sessions of a leader between two calls of
// RunOnce, whose caller need not know of sessions.
func TestIdleLeaderTakesTheLeadAgain(t *testing.T) {
	t.Parallel()
	const silent = `SET idle_session_timeout = 1`
	both := func(s *streamer.Streamer) []*pgx.Conn { return s.Sessions() }
	for name, c := range map[string]struct {
		partitions int
		lost       func(s *streamer.Streamer) []*pgx.Conn
		end        string
	}{
		"ended by somebody":      {1, both, `SELECT pg_terminate_backend(pg_backend_pid())`},
		"silent for too long":    {1, both, silent},
		"of several partitions":  {2, both, silent},
		"the one that numbers":   {2, func(s *streamer.Streamer) []*pgx.Conn { return s.Sessions()[1:] }, silent},
		"the one with the locks": {2, func(s *streamer.Streamer) []*pgx.Conn { return s.Sessions()[:1] }, silent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func(t *testing.T) bool { return loseIdleSessions(t, c.partitions, c.lost, c.end) })
		})
	}
}

// loseIdleSessions says whether no call took too long, which costs a term.
func loseIdleSessions(t *testing.T, partitions int, lost func(s *streamer.Streamer) []*pgx.Conn, end string) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	w.Repartition(partitions, 1)
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithUpkeepPause(*cfg, time.Nanosecond)
		cfg.Observer.Failed = unlessSlow(func(err error) { w.Errorf("the observer hears of %v", err) })
	})
	w.CommitMany(2)
	w.Drain(s)
	epoch := s.Term(0).Epoch
	for round := range 2 {
		for _, session := range lost(s) {
			_, _ = session.Exec(w.Ctx, end) // the session may end before its answer
			pid := session.PgConn().PID()
			world.AwaitQuery(w, "the end of the session", 0, `SELECT count(*) FROM pg_stat_activity WHERE pid = $1`, pid)
		}
		w.CommitMany(2)
		n, err := s.RunOnce(w.Ctx)
		if world.TookTooLong(err) {
			return false
		}
		w.Must(err)
		w.WantCount("published", n, 2)
		if now := s.Term(0).Epoch; now != epoch+1 {
			t.Errorf("round %d: the epoch is %d, and was %d", round, now, epoch)
		}
		w.Drain(s) // what is not recorded as published is sent again by a new leader
		epoch = s.Term(0).Epoch
	}
	return true
}

func TestLeaderInABlackHoleIsReplaced(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			n := world.SetupNetwork(t)
			far := n.FarStreamer(world.Short)
			n.Commit("1")
			n.Insist(far.RunOnce, func() {})
			n.Commit("1")
			n.Postgres.Blackhole(d)
			next := n.Streamer()
			n.AwaitLead(next)
			n.Commit("1")
			n.Drain(next)
			world.Heal(n.Postgres)
			if _, err := far.RunOnce(n.Ctx); err == nil {
				t.Error("the leader that was in the hole still leads")
			}
			next.Close()
			n.Check(3)
		})
	}
}

// TestLeaderSilentAtAnyMessageIsReplaced lets a streamer fall silent before its
// first message to Postgres, another before its second, and so on. Nothing heals.
func TestLeaderSilentAtAnyMessageIsReplaced(t *testing.T) {
	t.Parallel()
	// Side by side, without waiting for the turn of a parallel test: all that they do is
	// to wait for sessions to end.
	var last, met atomic.Int64
	var through atomic.Bool
	var walkers sync.WaitGroup
	for range 12 {
		walkers.Go(func() {
			for !through.Load() {
				message := int(last.Add(1))
				t.Run(strconv.Itoa(message), func(t *testing.T) {
					n := world.SetupNetwork(t)
					n.Commit("1")
					if !fallSilentAt(n, message) {
						through.Store(true) // it had no more to say
						return
					}
					met.Add(1)
					next := n.Streamer()
					n.AwaitLead(next)
					next.Close()
					world.Heal(n.Postgres)
					n.Check(1)
				})
			}
		})
	}
	walkers.Wait()
	if met := met.Load(); met < 5 {
		t.Errorf("only %d silences were met", met)
	}
}

// fallSilentAt lets a new streamer fall silent before a message, and says whether
// there was such a message.
func fallSilentAt(n *world.Network, message int) (silent bool) {
	n.Helper()
	n.Attempt("a streamer to fall silent, or to get through", func(context.Context) (bool, error) {
		n.Postgres.Disarm() // the trap of an attempt that failed may have sprung since
		world.Heal(n.Postgres)
		n.FarDB.Reset()
		far := n.FarStreamer(world.Short)
		hole := n.Postgres.BlackholeAt(proxy.ToServer, proxy.Nth(message), proxy.Both)
		ctx, cancel := n.Lapse(hole)
		defer cancel()
		_, err := far.RunOnce(ctx)
		if silent = world.Happened(hole); !silent {
			far.Close() // an error was the machine's: Postgres has ended the session
		}
		return silent || err == nil, err
	})
	return silent
}

// TestLeaderInABlackHoleHoldsNoLocks cuts a leader off in the middle of a transaction,
// which has the lock that its successor numbers with.
func TestLeaderInABlackHoleHoldsNoLocks(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	for range 3 {
		n.Commit("1")
	}
	n.Attempt("a leader to fall into the hole", func(context.Context) (bool, error) {
		n.Postgres.Disarm()
		world.Heal(n.Postgres)
		far := n.FarStreamer(world.Short, func(cfg *streamer.Config) {
			*cfg = streamer.WithUpkeepPause(*cfg, time.Nanosecond)
			cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 1, 1, time.Nanosecond
		})
		hole := n.Postgres.BlackholeAt(proxy.ToServer, proxy.Containing("DELETE FROM unilog.batches"), proxy.Both)
		ctx, cancel := n.Lapse(hole)
		defer cancel()
		var err error
		for err == nil { // it is the upkeep that falls into it, and goes on
			_, err = far.RunOnce(ctx)
		}
		return world.Happened(hole), err // or it lost its session, as the machine is slow
	})
	next := n.Streamer()
	n.AwaitLead(next)
	world.Heal(n.Postgres)
	n.Drain(next)
	next.Close()
	n.Check(3)
}

func TestOneStreamerLeads(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	first, second := w.Streamer(), w.Streamer()
	w.Commit("1")
	w.Drain(first)
	if _, err := w.Timely(second.RunOnce); !errors.Is(err, unilog.ErrStandby) {
		t.Fatalf("the second streamer says %v, want ErrStandby", err)
	}
	epoch := first.Term(0).Epoch
	first.Close()
	w.Commit("2")
	w.WantCount("published by the second", w.Drain(second), 1)
	if second.Term(0).Epoch <= epoch {
		t.Errorf("the second's epoch is %d, the first's was %d", second.Term(0).Epoch, epoch)
	}
}

func TestFrozenLeaderLosesTheLead(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	frozen := w.Streamer(world.Short)
	w.Commit("1")
	w.Attempt("the leader to publish", func(ctx context.Context) (bool, error) {
		_, err := frozen.RunOnce(ctx)
		return err == nil, err
	})
	epoch := frozen.Term(0).Epoch
	// It does nothing any more, and its connection stays open.
	next := w.Streamer()
	w.AwaitLead(next)
	w.Commit("2")
	w.Drain(next)
	// The log refuses it even before it has heard of the loss of its session.
	var fenced *unilog.FencedError
	if _, err := w.Log.Claim(w.Ctx, unilog.Term{LogID: next.Term(0).LogID, Epoch: epoch}); !errors.As(err, &fenced) {
		t.Errorf("the log says %v to the frozen leader's term", err)
	}
	if _, err := frozen.RunOnce(w.Ctx); err == nil {
		t.Error("the frozen leader wakes up and leads")
	}
}

func TestStreamerRefusesALogThatIsAhead(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(10)
	s := w.Streamer()
	w.Drain(s)
	s.Close()
	forget(w, 5)
	var ahead *unilog.LogAheadError
	if err := w.Streamer().Run(w.Ctx); !errors.As(err, &ahead) || ahead.Log != 10 || ahead.Database != 5 {
		t.Fatalf("the streamer says %v, want the heads 10 and 5", err)
	}
	// The way out that the message gives.
	w.Command("DEL", w.Stream)
	w.Exec(`DELETE FROM amounts WHERE id > 5`)
	w.Drain(w.Streamer())
	w.WantCount("stream entries", len(w.Offsets()), 5)
}

func TestStreamerRefusesALogOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w, other := world.SetupOnRedis(t), world.SetupOnRedis(t)
	other.Exec(`UPDATE unilog.log SET log_id = gen_random_uuid()`) // both are copies of one
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	var foreign *unilog.ForeignLogError
	err := other.Streamer(func(cfg *streamer.Config) { cfg.Log = w.Log }).Run(w.Ctx)
	if !errors.As(err, &foreign) {
		t.Errorf("a streamer of another database says %v", err)
	}
	w.Commit("2")
	w.WantCount("published as if nothing had been", w.Drain(s), 1)
}
