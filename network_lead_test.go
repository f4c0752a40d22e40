package unilog_test

import (
	"context"
	"errors"
	"testing"
	"time"

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
	n.eventually(func() bool {
		n.drain(leader)
		if _, err := standby.RunOnce(n.ctx); !errors.Is(err, unilog.ErrStandby) {
			t.Fatalf("the standby says %v", err)
		}
		select {
		case <-lost:
			return true
		default:
			return false
		}
	})
	n.redis.Blackhole(0) // for new connections: what was in the hole stays lost
	leader.Resign()
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
			far := n.farStreamer(func(cfg *unilog.StreamerConfig) {
				*cfg = unilog.WithSessionTimeout(*cfg, 100*time.Millisecond)
			})
			n.commit("1")
			n.drain(far)
			n.commit("1")
			n.postgres.Blackhole(d)
			next := n.streamer()
			n.eventually(func() bool {
				_, err := next.RunOnce(n.ctx)
				return !errors.Is(err, unilog.ErrStandby)
			})
			n.commit("1")
			n.drain(next)
			heal(n.postgres)
			if _, err := far.RunOnce(n.ctx); err == nil {
				t.Error("the leader that was in the hole still leads")
			}
			next.Resign()
			n.check(3)
		})
	}
}

// TestLeaderSilentAtAnyMessageIsReplaced lets a streamer fall silent before its
// first message to Postgres, then before its second, and so on. Nothing heals.
func TestLeaderSilentAtAnyMessageIsReplaced(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	short := func(cfg *unilog.StreamerConfig) { *cfg = unilog.WithSessionTimeout(*cfg, 100*time.Millisecond) }
	met, commits := 0, 0
	for ; ; met++ {
		n.commit("1")
		commits++
		n.farDB.Reset()
		far := n.farStreamer(short)
		silent := n.postgres.BlackholeAt(proxy.ToServer, proxy.Nth(met+1), proxy.Both)
		ctx, cancel := context.WithTimeout(n.ctx, 200*time.Millisecond)
		_, err := far.RunOnce(ctx)
		cancel()
		if !happened(silent) {
			if errors.Is(err, context.DeadlineExceeded) { // the machine was slow, not the network
				far.Resign()
				met--
				continue
			}
			n.must(err)
			far.Resign()
			break
		}
		next := n.streamer()
		n.eventually(func() bool {
			_, err := next.RunOnce(n.ctx)
			return !errors.Is(err, unilog.ErrStandby)
		})
		next.Resign()
		heal(n.postgres)
	}
	if met < 5 {
		t.Errorf("only %d silences were met", met)
	}
	n.check(commits)
}

// TestLeaderInABlackHoleHoldsNoTables cuts a leader off in the middle of a
// transaction, which holds locks that its successor needs.
func TestLeaderInABlackHoleHoldsNoTables(t *testing.T) {
	t.Parallel()
	n := setupNetwork(t)
	far := n.farStreamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(unilog.WithSessionTimeout(*cfg, 100*time.Millisecond), 10)
		cfg.BatchRecords = 5
	})
	n.commit("1")
	silent := n.postgres.BlackholeAt(proxy.ToServer, proxy.Containing("ALTER TABLE log_records ATTACH"), proxy.Both)
	ctx, cancel := context.WithTimeout(n.ctx, 500*time.Millisecond)
	defer cancel()
	if _, err := far.RunOnce(ctx); err == nil {
		t.Fatal("the leader got out of the hole")
	}
	<-silent
	next := n.streamer()
	n.eventually(func() bool {
		_, err := next.RunOnce(n.ctx)
		return !errors.Is(err, unilog.ErrStandby)
	})
	heal(n.postgres)
	n.drain(next)
	next.Resign()
	n.check(1)
}
