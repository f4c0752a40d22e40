package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/internal/redisnodes"
)

// nodesFaults befall Redis servers that replace each other, one at a time.
var nodesFaults = []fault{
	{name: "kill-master", does: "SIGKILL to the master of a partition, which is a replica when it starts again", inject: killMaster, fromStart: true},
	{name: "freeze-master", does: "SIGSTOP to the master of a partition for up to 3 s; it is replaced after one", inject: freezeMaster, fromStart: true},
}

// clusterFaults befall Redis Cluster.
var clusterFaults = []fault{
	{name: "reshard", does: "a partition's slot moves to another master, in up to 2 s", inject: reshard, fromStart: true},
}

const (
	// replacedTimeout bounds the wait for another master: there may be none.
	replacedTimeout = 15 * time.Second
	nodePause       = 50 * time.Millisecond
)

// master is who has a partition's stream.
func (x *injection) master(ctx context.Context) (key string, master *redisnodes.Node, err error) {
	key = x.streamKey()
	master, _, err = x.nodes.Master(ctx, key)
	if err == nil && master == nil {
		err = errors.New("nobody has the stream")
	}
	if err != nil {
		return key, nil, fmt.Errorf("%w: %w", errNotNow, err)
	}
	return key, master, nil
}

func killMaster(ctx context.Context, x *injection) error {
	x.servers.Lock()
	defer x.servers.Unlock()
	key, master, err := x.master(ctx)
	if err != nil {
		return err
	}
	if err := master.Kill(); err != nil {
		return err
	}
	close(x.begun)
	// If nobody takes its place, it comes back with nothing.
	_ = eventually(ctx, replacedTimeout, func(ctx context.Context) error {
		now, _, err := x.nodes.Master(ctx, key)
		if err == nil && now == master {
			err = errors.New("it is still taken for the master")
		}
		return err
	})
	err = mend(ctx, func(ctx context.Context) error { return x.nodes.Restart(ctx, master) })
	return errors.Join(err, rejoined(ctx, master))
}

func freezeMaster(ctx context.Context, x *injection) error {
	x.servers.Lock()
	defer x.servers.Unlock()
	_, master, err := x.master(ctx)
	if err != nil {
		return err
	}
	if err := master.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	close(x.begun)
	pause(ctx, x.lasting(3*time.Second))
	return errors.Join(master.Signal(syscall.SIGCONT), rejoined(ctx, master))
}

// rejoined waits until a node has a master or a replica.
func rejoined(ctx context.Context, node *redisnodes.Node) error {
	return eventually(ctx, mendTimeout, func(ctx context.Context) error {
		info, err := node.Do(ctx, "INFO", "replication").ToString()
		if err == nil && !strings.Contains(info, "master_link_status:up") && !strings.Contains(info, "state=online") {
			err = fmt.Errorf("node %d is alone: %s", node.Port, info)
		}
		return err
	})
}

// reshard goes on to its end: half of it would have to be mended by hand.
func reshard(ctx context.Context, x *injection) error {
	x.servers.Lock()
	defer x.servers.Unlock()
	key, from, err := x.master(ctx)
	if err != nil {
		return err
	}
	var others []*redisnodes.Node
	for _, node := range x.nodes.Servers {
		if node != from && isMaster(ctx, node) {
			others = append(others, node)
		}
	}
	if len(others) == 0 {
		return errNotNow
	}
	to := others[x.random.IntN(len(others))]
	close(x.begun)
	half := x.lasting(time.Second)
	return mend(ctx, func(ctx context.Context) error {
		return x.nodes.Move(ctx, key, from, to, func() { pause(ctx, half) })
	})
}

func isMaster(ctx context.Context, node *redisnodes.Node) bool {
	role, err := node.Do(ctx, "ROLE").ToArray()
	if err != nil || len(role) == 0 {
		return false
	}
	name, _ := role[0].ToString()
	return name == "master"
}

// eventually waits until something holds.
func eventually(ctx context.Context, atMost time.Duration, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, atMost)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		pause(ctx, nodePause)
	}
}
