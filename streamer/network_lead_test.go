package streamer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestStandbyFindsItsConnectionLost loses a standby's idle connection to the log
// without a word: the first call of its own term must not wait for it in vain.
func TestStandbyFindsItsConnectionLost(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	leader, standby := n.Streamer(), n.FarStreamer()
	n.Drain(leader)
	lost := n.Redis.BlackholeAt(proxy.ToServer, proxy.Containing("EVALSHA"), proxy.Both)
	n.Await("the standby to lose its connection", func() string {
		n.Drain(leader)
		_, err := standby.RunOnce(n.Ctx)
		if !errors.Is(err, unilog.ErrStandby) {
			t.Fatalf("the standby says %v", err)
		}
		if !world.Happened(lost) {
			return err.Error()
		}
		return ""
	})
	n.Redis.Blackhole(0) // for new connections: what was in the hole stays lost
	leader.Close()
	if _, err := standby.RunOnce(n.Ctx); err != nil {
		t.Errorf("the standby takes the lead and says %v", err)
	}
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
// first message to Postgres, then before its second, and so on. Nothing heals.
func TestLeaderSilentAtAnyMessageIsReplaced(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	met, commits := 0, 0
	for ; ; met++ {
		n.Commit("1")
		commits++
		if !fallSilentAt(n, met+1) {
			break
		}
		next := n.Streamer()
		n.AwaitLead(next)
		next.Close()
		world.Heal(n.Postgres)
	}
	if met < 5 {
		t.Errorf("only %d silences were met", met)
	}
	n.Check(commits)
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

// TestLeaderInABlackHoleHoldsNoTables cuts a leader off in the middle of a
// transaction, which holds locks that its successor needs.
func TestLeaderInABlackHoleHoldsNoTables(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	n.Commit("1")
	n.Attempt("a leader to fall into the hole", func(context.Context) (bool, error) {
		n.Postgres.Disarm()
		world.Heal(n.Postgres)
		far := n.FarStreamer(world.Short, func(cfg *streamer.Config) {
			*cfg = streamer.WithChunkRecords(*cfg, 10)
			cfg.BatchRecords = 5
		})
		hole := n.Postgres.BlackholeAt(proxy.ToServer, proxy.Containing("ALTER TABLE log_records ATTACH"), proxy.Both)
		ctx, cancel := n.Lapse(hole)
		defer cancel()
		_, err := far.RunOnce(ctx)
		if err == nil {
			t.Fatal("the leader got out of the hole")
		}
		return world.Happened(hole), err // or it lost its session, as the machine is slow
	})
	next := n.Streamer()
	n.AwaitLead(next)
	world.Heal(n.Postgres)
	n.Drain(next)
	next.Close()
	n.Check(1)
}
