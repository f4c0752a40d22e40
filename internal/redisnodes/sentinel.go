package redisnodes

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const (
	sentinels  = 3
	masterName = "mymaster"
)

// StartSentinel starts a master, a replica and three sentinels. The sentinels come
// first, and replace a master that is silent for a second. dir must exist. What
// has been started is to be stopped also after an error.
func StartSentinel(ctx context.Context, dir string) (*Nodes, error) {
	return startSentinel(ctx, dir, soon)
}

// StartSteadySentinel is StartSentinel for those who end no master: one that is only slow
// stays what it is.
func StartSteadySentinel(ctx context.Context, dir string) (*Nodes, error) {
	return startSentinel(ctx, dir, late)
}

func startSentinel(ctx context.Context, dir string, silence time.Duration) (*Nodes, error) {
	// Sentinels of their own password, as that may be so.
	n := &Nodes{dir: dir, password: rand.Text(), asks: sentinelMaster}
	watch := &Nodes{dir: dir, password: rand.Text()}
	config, args := n.replicated()
	for i := range 2 {
		if i == 1 {
			config += fmt.Sprintf("replicaof 127.0.0.1 %d\n", n.Servers[0].Port)
		}
		if err := n.start(ctx, config, args...); err != nil {
			return n, err
		}
	}
	master, replica := n.Servers[0], n.Servers[1]
	if err := until(ctx, "a replica that is up to date", func(ctx context.Context) error {
		info, err := master.Do(ctx, "INFO", "replication").ToString()
		if err == nil && !strings.Contains(info, "state=online") {
			err = fmt.Errorf("the master says %s", info)
		}
		return err
	}); err != nil {
		return n, err
	}
	for range sentinels {
		err := watch.start(ctx, strings.Join([]string{
			"sentinel sentinel-pass " + watch.password,
			"sentinel monitor " + masterName + " 127.0.0.1 " + strconv.Itoa(master.Port) + " 2",
			"sentinel auth-pass " + masterName + " " + n.password,
			"sentinel down-after-milliseconds " + masterName + " " + strconv.FormatInt(silence.Milliseconds(), 10),
			"sentinel failover-timeout " + masterName + " 1000", "",
		}, "\n"), "--sentinel")
		if err != nil {
			n.Servers = append(watch.Servers, n.Servers...)
			return n, err
		}
	}
	n.Servers = append(watch.Servers, n.Servers...)
	n.url = fmt.Sprintf("redis+sentinel://default:%s@%s/%s?sentinel_user=default&sentinel_password=%s",
		n.password, addresses(watch.Servers), masterName, watch.password)
	for _, node := range watch.Servers {
		if err := until(ctx, "sentinels that know each other", func(ctx context.Context) error {
			return node.watches(ctx, strconv.Itoa(replica.Port))
		}); err != nil {
			return n, err
		}
	}
	return n, nil
}

// watches returns nil when a sentinel knows the others, and the replica, which
// it has to for a failover.
func (n *Node) watches(ctx context.Context, replica string) error {
	state, err := n.Do(ctx, "SENTINEL", "MASTER", masterName).AsStrMap()
	if err != nil {
		return err
	}
	replicas, err := n.Do(ctx, "SENTINEL", "REPLICAS", masterName).ToArray()
	if err != nil {
		return err
	}
	well := false
	for _, each := range replicas {
		state, err := each.AsStrMap()
		well = well || err == nil && state["port"] == replica && state["flags"] == "slave" && state["master-link-status"] == "ok"
	}
	if state["num-other-sentinels"] != strconv.Itoa(sentinels-1) || !well {
		return fmt.Errorf("sentinel %d knows %s others, and of replicas %v", n.Port, state["num-other-sentinels"], replicas)
	}
	return nil
}

// sentinelMaster is the master that one sentinel knows, whatever the key.
func sentinelMaster(ctx context.Context, node *Node, _ string) (port int64, err error) {
	address, err := node.Do(ctx, "SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName).AsStrSlice()
	if err != nil {
		return 0, err
	}
	if len(address) != 2 {
		return 0, fmt.Errorf("a sentinel knows no address but %v", address)
	}
	return strconv.ParseInt(address[1], 10, 64)
}

// AcceptLaggards lets sentinels promote a replica however long it has not heard of its
// master, as a cluster of ours does anyway. But they find out by themselves no more that
// a master is down: see FailOver.
func (n *Nodes) AcceptLaggards(ctx context.Context) error {
	return n.eachSentinel(func(node *Node) error {
		// A replica may have been without its master for ten times as long.
		return node.Do(ctx, "SENTINEL", "SET", masterName, "down-after-milliseconds", "3600000").Error()
	})
}

// FailOver promotes a replica of a master that is down.
func (n *Nodes) FailOver(ctx context.Context, replica *Node) error {
	if n.isCluster {
		return replica.Do(ctx, "CLUSTER", "FAILOVER", "TAKEOVER").Error()
	}
	return n.Servers[0].Do(ctx, "SENTINEL", "FAILOVER", masterName).Error()
}

func (n *Nodes) eachSentinel(do func(*Node) error) error {
	if n.isCluster {
		return nil
	}
	for _, node := range n.Servers[:sentinels] {
		if err := do(node); err != nil {
			return err
		}
	}
	return nil
}
