package testenv

import (
	"context"
	"testing"

	"github.com/rocketrides/unilog/internal/redisnodes"
)

// Nodes are Redis servers that belong together, and Node is one of them.
type (
	Nodes = redisnodes.Nodes
	Node  = redisnodes.Node
)

// SharedCluster returns the URL of the Redis Cluster that all tests of this
// process share. See SharedRedis.
func SharedCluster(t testing.TB) string { return sharedNodes(t, shared.cluster) }

// SharedSentinel returns the URL, with Sentinel, of a master and a replica that
// all tests of this process share. See SharedRedis.
func SharedSentinel(t testing.TB) string { return sharedNodes(t, shared.sentinel) }

// Cluster starts a Redis Cluster of the test's own, of three masters with a
// replica each.
func Cluster(t testing.TB) *Nodes {
	t.Helper()
	return ownNodes(t, redisnodes.StartCluster)
}

// SteadyCluster is [Cluster] for a test that replaces masters itself: one that is only
// slow stays what it is.
func SteadyCluster(t testing.TB) *Nodes {
	t.Helper()
	return ownNodes(t, redisnodes.StartSteadyCluster)
}

// SteadySentinel is [Sentinel] for such a test.
func SteadySentinel(t testing.TB) *Nodes {
	t.Helper()
	return ownNodes(t, redisnodes.StartSteadySentinel)
}

// Sentinel starts a master, a replica and three sentinels of the test's own. The
// sentinels come first.
func Sentinel(t testing.TB) *Nodes {
	t.Helper()
	return ownNodes(t, redisnodes.StartSentinel)
}

func sharedNodes(t testing.TB, start func() (*Nodes, error)) string {
	t.Helper()
	inSuite(t, "Cluster", "Sentinel")
	n, err := start()
	if err != nil {
		t.Fatal(err)
	}
	return n.URL()
}

type nodesStarter = func(ctx context.Context, dir string) (*Nodes, error)

// ownNodes starts several servers for one test.
func ownNodes(t testing.TB, start nodesStarter) *Nodes {
	t.Helper()
	inSuite(t, "Cluster", "Sentinel")
	base, err := shared.base()
	if err != nil {
		t.Fatal(err)
	}
	n, err := start(t.Context(), base.path)
	if n != nil {
		t.Cleanup(func() {
			if err := n.Stop(); err != nil {
				t.Errorf("stop the nodes: %v", err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// startNodes starts several servers for all tests.
func startNodes(start nodesStarter) (*Nodes, error) {
	base, err := shared.base()
	if err != nil {
		return nil, err
	}
	n, err := start(context.Background(), base.path)
	if n != nil {
		shared.mu.Lock()
		defer shared.mu.Unlock()
		shared.nodes = append(shared.nodes, n)
	}
	return n, err
}
