// Package redisnodes runs Redis servers that belong together, as child processes
// of this one, on free ports of 127.0.0.1: a Redis Cluster, or a master and its
// replica with Sentinel.
package redisnodes

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/private"
)

// Nodes are Redis servers that belong together: the nodes of a cluster, or a
// master, its replica and their sentinels. They talk to each other by TCP, so
// whoever wants to talk to them needs a password, made up for each group.
type Nodes struct {
	// Servers are to be killed and frozen.
	Servers   []*Node
	dir       string
	password  string
	url       string
	isCluster bool
	asks      func(ctx context.Context, node *Node, key string) (masterPort int64, err error)
}

// Node is one server of several.
type Node struct {
	*private.Server
	Port, bus int
	client    rueidis.Client
}

// URL is what redislog.Open takes.
func (n *Nodes) URL() string { return n.url }

// Do asks one node, and no other that it may refer to.
func (n *Node) Do(ctx context.Context, command ...string) rueidis.RedisResult {
	return n.client.Do(ctx, n.client.B().Arbitrary(command...).Build())
}

// startTimeout bounds the start of one server on a busy machine.
const startTimeout = 2 * time.Minute

// start adds a server with lines of configuration, on ports of its own.
func (n *Nodes) start(ctx context.Context, config string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	file, err := os.CreateTemp(n.dir, "conf-")
	if err == nil {
		_, err = fmt.Fprintf(file, "requirepass %s\n%s", n.password, config)
		err = errors.Join(err, file.Close())
	}
	for err == nil {
		node := &Node{Port: freeport.Next(), bus: freeport.Next()}
		listen := []string{"--bind", "127.0.0.1", "--port", strconv.Itoa(node.Port)}
		if n.isCluster {
			listen = append(listen, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(node.bus))
		}
		options := private.Options{ConfigFile: file.Name(), ExtraArgs: append(listen, args...)}
		if options.Dir, err = os.MkdirTemp(n.dir, ""); err != nil {
			return err
		}
		node.Server, err = private.StartRedis(ctx, options)
		if err != nil && strings.Contains(err.Error(), "Failed listening") {
			err = nil // somebody was faster to take the port
			continue
		}
		if err != nil {
			return err
		}
		n.Servers = append(n.Servers, node)
		node.client, err = rueidis.NewClient(rueidis.ClientOption{
			InitAddress: []string{address(node.Port)}, Password: n.password,
			ForceSingleClient: true, DisableCache: true, DisableRetry: true,
		})
		return err
	}
	return err
}

// replicated are what data nodes are started with. They keep nothing on disk:
// what a killed one knew, its replica has or nobody, which is what tests of
// failovers are about.
func (n *Nodes) replicated() (config string, args []string) {
	return "masterauth " + n.password + "\n", []string{"--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1"}
}

// Stop kills the servers and removes their files.
func (n *Nodes) Stop() error {
	n.CloseClients()
	var errs []error
	for _, node := range n.Servers {
		errs = append(errs, node.Kill())
		<-node.Done()
		errs = append(errs, private.Remove(context.Background(), node.Options().Dir))
	}
	return errors.Join(errs...)
}

// CloseClients closes those that ask the nodes.
func (n *Nodes) CloseClients() {
	for _, node := range n.Servers {
		if node.client != nil {
			node.client.Close()
		}
	}
}

// Restart starts a node again that was killed.
func (n *Nodes) Restart(ctx context.Context, node *Node) error {
	<-node.Done()
	server, err := private.StartRedis(ctx, node.Options())
	if err == nil {
		node.Server = server
	}
	return err
}

// Master returns the node that has a key, as the first node sees it that answers,
// and its replica.
func (n *Nodes) Master(ctx context.Context, key string) (master, replica *Node, err error) {
	err = errors.New("no node runs")
	for _, node := range n.Servers {
		ctx, cancel := context.WithTimeout(ctx, time.Second) // it may be frozen
		defer cancel()
		var port int64
		if port, err = n.asks(ctx, node, key); err != nil {
			continue
		}
		for _, other := range n.Servers {
			if int64(other.Port) == port {
				master = other
			}
			info, err := other.Do(ctx, "INFO", "replication").ToString()
			if err == nil && strings.Contains(info, fmt.Sprintf("master_port:%d\r", port)) {
				replica = other
			}
		}
		return master, replica, nil
	}
	return nil, nil, err
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func addresses(nodes []*Node) string {
	var all []string
	for _, node := range nodes {
		all = append(all, address(node.Port))
	}
	return strings.Join(all, ",")
}

// until waits for what another server brings about, as long as one may take to
// start.
func until(ctx context.Context, what string, holds func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := holds(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
