package unilog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

// TestStandbyFindsItsConnectionLost loses a standby's idle connection to the log
// without a word: the first call of its own term must not wait for it in vain.
func TestStandbyFindsItsConnectionLost(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	leader, standby := n.streamer(), n.farStreamer()
	n.drain(leader)
	lost := n.redis.BlackholeAt(proxy.ToServer, proxy.Containing("EVALSHA"), proxy.Both)
	n.await("the standby to lose its connection", func() string {
		n.drain(leader)
		_, err := standby.RunOnce(n.ctx)
		if !errors.Is(err, unilog.ErrStandby) {
			t.Fatalf("the standby says %v", err)
		}
		if !happened(lost) {
			return err.Error()
		}
		return ""
	})
	n.redis.Blackhole(0) // for new connections: what was in the hole stays lost
	leader.Close()
	if _, err := standby.RunOnce(n.ctx); err != nil {
		t.Errorf("the standby takes the lead and says %v", err)
	}
}

func TestLeaderInABlackHoleIsReplaced(t *testing.T) {
	t.Parallel()
	for _, d := range []proxy.Direction{proxy.ToServer, proxy.ToClient} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			n := setupNetwork(t)
			far := n.farStreamer(short)
			n.commit("1")
			n.insist(far.RunOnce, func() {})
			n.commit("1")
			n.postgres.Blackhole(d)
			next := n.streamer()
			n.awaitLead(next)
			n.commit("1")
			n.drain(next)
			heal(n.postgres)
			if _, err := far.RunOnce(n.ctx); err == nil {
				t.Error("the leader that was in the hole still leads")
			}
			next.Close()
			n.check(3)
		})
	}
}

// TestLeaderSilentAtAnyMessageIsReplaced lets a streamer fall silent before its
// first message to Postgres, then before its second, and so on. Nothing heals.
func TestLeaderSilentAtAnyMessageIsReplaced(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	met, commits := 0, 0
	for ; ; met++ {
		n.commit("1")
		commits++
		if !fallSilentAt(n, met+1) {
			break
		}
		next := n.streamer()
		n.awaitLead(next)
		next.Close()
		heal(n.postgres)
	}
	if met < 5 {
		t.Errorf("only %d silences were met", met)
	}
	n.check(commits)
}

// fallSilentAt lets a new streamer fall silent before a message, and says whether
// there was such a message.
func fallSilentAt(n *network, message int) (silent bool) {
	n.Helper()
	n.attempt("a streamer to fall silent, or to get through", func(context.Context) (bool, error) {
		n.postgres.Disarm() // the trap of an attempt that failed may have sprung since
		heal(n.postgres)
		n.farDB.Reset()
		far := n.farStreamer(short)
		hole := n.postgres.BlackholeAt(proxy.ToServer, proxy.Nth(message), proxy.Both)
		ctx, cancel := n.lapse(hole)
		defer cancel()
		_, err := far.RunOnce(ctx)
		if silent = happened(hole); !silent {
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
	n := setupNetwork(t)
	n.commit("1")
	n.attempt("a leader to fall into the hole", func(context.Context) (bool, error) {
		n.postgres.Disarm()
		heal(n.postgres)
		far := n.farStreamer(short, func(cfg *unilog.StreamerConfig) {
			*cfg = unilog.WithChunkRecords(*cfg, 10)
			cfg.BatchRecords = 5
		})
		hole := n.postgres.BlackholeAt(proxy.ToServer, proxy.Containing("ALTER TABLE log_records ATTACH"), proxy.Both)
		ctx, cancel := n.lapse(hole)
		defer cancel()
		_, err := far.RunOnce(ctx)
		if err == nil {
			t.Fatal("the leader got out of the hole")
		}
		return happened(hole), err // or it lost its session, as the machine is slow
	})
	next := n.streamer()
	n.awaitLead(next)
	heal(n.postgres)
	n.drain(next)
	next.Close()
	n.check(1)
}
