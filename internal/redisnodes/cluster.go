package redisnodes

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"
)

const (
	masters   = 3
	slotCount = 16384
)

// soon and late are for how long a master may be silent before it is replaced.
const soon, late = time.Second, 5 * time.Minute

// StartCluster starts a Redis Cluster of three masters with a replica each. A
// master that is silent for a second is replaced. dir must exist. What has been
// started is to be stopped also after an error.
func StartCluster(ctx context.Context, dir string) (*Nodes, error) {
	return startCluster(ctx, dir, soon)
}

// StartSteadyCluster is StartCluster for those who end no master: one that is only slow
// stays what it is.
func StartSteadyCluster(ctx context.Context, dir string) (*Nodes, error) {
	return startCluster(ctx, dir, late)
}

func startCluster(ctx context.Context, dir string, silence time.Duration) (*Nodes, error) {
	n := &Nodes{dir: dir, password: rand.Text(), isCluster: true, asks: clusterMaster}
	config, args := n.replicated()
	args = append(args, "--cluster-node-timeout", strconv.FormatInt(silence.Milliseconds(), 10), "--cluster-replica-validity-factor", "0")
	for range 2 * masters {
		if err := n.start(ctx, config, args...); err != nil {
			return n, err
		}
	}
	n.url = "redis+cluster://default:" + n.password + "@" + addresses(n.Servers)
	if err := n.introduce(ctx); err != nil {
		return n, err
	}
	for i := range masters {
		replica := n.Servers[masters+i]
		id, err := n.Servers[i].Do(ctx, "CLUSTER", "MYID").ToString()
		if err != nil {
			return n, err
		}
		// It may not have heard of its master yet.
		if err := until(ctx, "make a replica", func(ctx context.Context) error { return replica.Do(ctx, "CLUSTER", "REPLICATE", id).Error() }); err != nil {
			return n, err
		}
	}
	return n, n.Whole(ctx)
}

// introduce gives the masters their slots and lets each node meet each other,
// lest they wait for gossip.
func (n *Nodes) introduce(ctx context.Context) error {
	for i, node := range n.Servers {
		if i < masters {
			first, last := i*slotCount/masters, (i+1)*slotCount/masters-1
			if err := node.Do(ctx, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(first), strconv.Itoa(last)).Error(); err != nil {
				return err
			}
		}
		// As many epochs as nodes: else they would have to come to terms.
		if err := node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1)).Error(); err != nil {
			return err
		}
	}
	for i, node := range n.Servers {
		for _, other := range n.Servers[:i] {
			if err := node.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", strconv.Itoa(other.Port), strconv.Itoa(other.bus)).Error(); err != nil {
				return err
			}
		}
	}
	return nil
}

// Whole waits until every node of a cluster finds it well, with a replica of each
// master that is up to date.
func (n *Nodes) Whole(ctx context.Context) error {
	for _, node := range n.Servers {
		if err := until(ctx, "a cluster that is well", node.findsItWhole); err != nil {
			return err
		}
	}
	return nil
}

func (n *Node) findsItWhole(ctx context.Context) error {
	info, err := n.Do(ctx, "CLUSTER", "INFO").ToString()
	if err != nil {
		return err
	}
	slots, err := n.Do(ctx, "CLUSTER", "SLOTS").ToArray()
	if err != nil {
		return err
	}
	replicas := 0
	for _, slot := range slots {
		nodes, err := slot.ToArray() // first slot, last slot, master, replicas
		if err != nil {
			return err
		}
		replicas += len(nodes) - 3
	}
	replication, err := n.Do(ctx, "INFO", "replication").ToString()
	if err != nil {
		return err
	}
	if !strings.Contains(info, "cluster_state:ok") || replicas < masters ||
		!strings.Contains(replication, "master_link_status:up") && !strings.Contains(replication, "state=online") {
		return fmt.Errorf("node %d has %d replicas in its view and says %s %s", n.Port, replicas, info, replication)
	}
	return nil
}

// slot returns the range of slots around a key's, as a node sees it.
func (n *Node) slot(ctx context.Context, key string) ([]rueidis.RedisMessage, error) {
	number, err := n.Do(ctx, "CLUSTER", "KEYSLOT", key).AsInt64()
	if err != nil {
		return nil, err
	}
	slots, err := n.Do(ctx, "CLUSTER", "SLOTS").ToArray()
	if err != nil {
		return nil, err
	}
	for _, slot := range slots {
		parts, err := slot.ToArray() // first, last, master, replicas
		if err != nil || len(parts) < 3 {
			return nil, fmt.Errorf("CLUSTER SLOTS has %d parts: %w", len(parts), err)
		}
		first, _ := parts[0].AsInt64()
		last, _ := parts[1].AsInt64()
		if first <= number && number <= last {
			return parts, nil
		}
	}
	return nil, fmt.Errorf("no node has slot %d", number)
}

// clusterMaster is who has a key, as one node sees it.
func clusterMaster(ctx context.Context, node *Node, key string) (port int64, err error) {
	parts, err := node.slot(ctx, key)
	if err != nil {
		return 0, err
	}
	master, err := parts[2].ToArray() // address, port, id
	if err != nil || len(master) < 2 {
		return 0, fmt.Errorf("CLUSTER SLOTS names a master in %d parts: %w", len(master), err)
	}
	return master[1].AsInt64()
}

// Move gives the slot of a key to another master, as a person would with
// redis-cli: keys go one by one. Meanwhile is called when some have gone.
func (n *Nodes) Move(ctx context.Context, key string, from, to *Node, meanwhile func()) error {
	number, err := from.Do(ctx, "CLUSTER", "KEYSLOT", key).AsInt64()
	if err != nil {
		return err
	}
	slot := strconv.FormatInt(number, 10)
	fromID, err := from.Do(ctx, "CLUSTER", "MYID").ToString()
	if err != nil {
		return err
	}
	toID, err := to.Do(ctx, "CLUSTER", "MYID").ToString()
	if err != nil {
		return err
	}
	if err := errors.Join(
		to.Do(ctx, "CLUSTER", "SETSLOT", slot, "IMPORTING", fromID).Error(),
		from.Do(ctx, "CLUSTER", "SETSLOT", slot, "MIGRATING", toID).Error(),
	); err != nil {
		return err
	}
	meanwhile()
	keys, err := from.Do(ctx, "CLUSTER", "GETKEYSINSLOT", slot, "100").AsStrSlice()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := from.Do(ctx, "MIGRATE", "127.0.0.1", strconv.Itoa(to.Port), key, "0", "5000", "AUTH", n.password).Error(); err != nil {
			return err
		}
	}
	meanwhile()
	return errors.Join(
		to.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Error(),
		from.Do(ctx, "CLUSTER", "SETSLOT", slot, "NODE", toID).Error(),
	)
}
