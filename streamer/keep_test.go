package streamer_test

import (
	"errors"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/world"
)

// TestStandbyFindsItsConnectionLost loses a standby's idle connection to the log
// without a word: the first call of its own term must not wait for it in vain.
func TestStandbyFindsItsConnectionLost(t *testing.T) {
	t.Parallel()
	undisturbed(t, loseConnectionOfStandby)
}

// loseConnectionOfStandby says whether nothing was waited for in vain, as on a slow
// machine, and whenever a standby does not look after its connection.
func loseConnectionOfStandby(t *testing.T) (undisturbed bool) {
	t.Helper()
	n := world.SetupNetwork(t)
	leader, standby := n.Streamer(), n.FarStreamer()
	n.Drain(leader)
	lost := n.Redis.BlackholeAt(proxy.ToServer, proxy.Containing("EVALSHA"), proxy.Both)
	n.Await("the standby to lose its connection", func() string {
		n.Drain(leader)
		_, err := n.Timely(standby.RunOnce)
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
	_, err := standby.RunOnce(n.Ctx)
	if world.TookTooLong(err) || errors.Is(err, unilog.ErrStandby) { // the leader's locks may outlast it
		return false
	}
	if err != nil {
		t.Errorf("the standby takes the lead and says %v", err)
	}
	return true
}
