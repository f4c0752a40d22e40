package endtoend_test

import (
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/redislog"
)

// several are the sorts of Redis in which a replica takes over.
var several = map[string]func(testing.TB) *testenv.Nodes{
	"a cluster": testenv.Cluster,
	"Sentinel":  testenv.Sentinel,
}

// setupNodes makes a world on several servers, which the test may kill. See
// setupOn.
func setupNodes(t *testing.T, nodes *testenv.Nodes) *world.World {
	t.Helper()
	w := world.Bare(t, testenv.Database(t, "world", world.MigrateWorld))
	open := func() *redislog.Log {
		log, err := redislog.Open(w.Ctx, nodes.URL(), w.Stream)
		w.Must(err)
		t.Cleanup(log.Close)
		return log
	}
	w.Log, w.Redis = open(), open().Client()
	return w
}

// master returns who has the stream, as soon as that is known.
func master(w *world.World, nodes *testenv.Nodes) (master *testenv.Node) {
	w.Helper()
	w.Await("a master", func() string {
		var err error
		if master, _, err = nodes.Master(w.Ctx, w.Stream); err == nil && master != nil {
			return ""
		}
		return fmt.Sprint("none, and the error is ", err)
	})
	return master
}

// replicated waits until it has a replica, too, that says so.
func replicated(w *world.World, nodes *testenv.Nodes) (master, replica *testenv.Node) {
	w.Helper()
	w.Await("a master with a replica", func() string {
		var err error
		if master, replica, err = nodes.Master(w.Ctx, w.Stream); err == nil && master != nil && replica != nil {
			return ""
		}
		return fmt.Sprint("none, and the error is ", err)
	})
	return master, replica
}

// replaced waits until somebody else has the stream.
func replaced(w *world.World, nodes *testenv.Nodes, old *testenv.Node) {
	w.Helper()
	w.Await("another master", func() string {
		if master(w, nodes) == old {
			return "it is the old one"
		}
		return ""
	})
}

func TestClusterOrSentinelMasterKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for name, start := range several {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := start(t)
			w := setupNodes(t, nodes)
			l := startLoad(w)
			l.goOn()
			master := master(w, nodes)
			w.Must(master.Kill())
			killed := time.Now()
			l.goOn() // nobody but the replica can have done it
			t.Logf("records go on %v after the master was killed", time.Since(killed))
			replaced(w, nodes, master)
			w.Must(nodes.Restart(w.Ctx, master))
			reconnect(w)
			l.goOn()
			l.finish()
		})
	}
}

// TestClusterOrSentinelMasterFrozenUnderLoad freezes the master, which does not know that it was
// replaced when it goes on. Its clients must notice without an end of their
// connections.
func TestClusterOrSentinelMasterFrozenUnderLoad(t *testing.T) {
	t.Parallel()
	for name, start := range several {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := start(t)
			w := setupNodes(t, nodes)
			l := startLoad(w)
			l.goOn()
			master := master(w, nodes)
			w.Must(master.Signal(syscall.SIGSTOP))
			frozen := time.Now()
			l.goOn()
			t.Logf("records go on %v after the master was frozen", time.Since(frozen))
			w.Must(master.Signal(syscall.SIGCONT))
			replaced(w, nodes, master)
			// It knows, and has cut its clients off.
			world.AwaitEqual(w, "the old master's role", "slave", func() string {
				role, err := master.Do(w.Ctx, "ROLE").ToArray()
				if err != nil {
					return err.Error()
				}
				name, _ := role[0].ToString()
				return name
			})
			reconnect(w)
			l.goOn()
			l.finish()
		})
	}
}

// TestClusterOrSentinelFailoverLosesEntries kills a master whose replica lacks entries that all
// consumers have applied.
func TestClusterOrSentinelFailoverLosesEntries(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(testing.TB) *testenv.Nodes{
		"a cluster": testenv.SteadyCluster, // by itself it might replace the master before
		"Sentinel":  testenv.SteadySentinel,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := start(t)
			w := setupNodes(t, nodes)
			l := startLoad(w)
			l.goOn()
			master, replica := replicated(w, nodes)
			w.Must(nodes.AcceptLaggards(w.Ctx))
			// It lags from here on.
			w.Must(replica.Do(w.Ctx, "CONFIG", "SET", "masterauth", "wrong").Error())
			w.Must(master.Do(w.Ctx, "CLIENT", "KILL", "TYPE", "replica").Error())
			entries, err := master.Do(w.Ctx, "XREVRANGE", w.Stream, "+", "-", "COUNT", "1").AsXRange()
			w.Must(err)
			var has int // at most
			_, err = fmt.Sscanf(entries[0].ID, "%d-0", &has)
			w.Must(err)
			w.AwaitTrue("the consumers to pass the replica", `SELECT min("offset") > $1 FROM unilog.checkpoints`, has)
			w.Must(master.Kill())
			killed := time.Now()
			w.Await("a failover", func() string {
				if err := nodes.FailOver(w.Ctx, replica); err != nil {
					return err.Error()
				}
				return ""
			})
			replaced(w, nodes, master)
			l.goOn()
			t.Logf("records go on %v after the master was killed", time.Since(killed))
			w.Must(nodes.Restart(w.Ctx, master))
			reconnect(w)
			l.finish()
		})
	}
}

// TestClusterSlotMovesUnderLoad moves the stream to another master of the cluster, twice,
// while it is written and read.
func TestClusterSlotMovesUnderLoad(t *testing.T) {
	t.Parallel()
	nodes := testenv.SteadyCluster(t)
	w := setupNodes(t, nodes)
	l := startLoad(w)
	for range 2 {
		l.goOn()
		from := master(w, nodes)
		to := nodes.Servers[0]
		if to == from {
			to = nodes.Servers[1]
		}
		w.Must(nodes.Move(w.Ctx, w.Stream, from, to, l.goOn))
		replaced(w, nodes, from)
	}
	l.goOn()
	l.finish()
}

// TestFailoverToAReplicaThatLags goes over to a replica that lacks entries which
// all consumers have applied.
func TestFailoverToAReplicaThatLags(t *testing.T) {
	t.Parallel()
	primary, replica := testenv.Redis(t, "--repl-diskless-sync-delay", "0"), testenv.Redis(t, "--appendonly", "no")
	listen := func(address string, server *private.Server) *proxy.Proxy {
		p, err := proxy.Listen(address, strings.TrimPrefix(server.URL(), "unix://"))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	link := listen("127.0.0.1:0", primary) // between the two
	t.Cleanup(link.Close)
	address := filepath.Join(t.TempDir(), "redis.sock") // what clients connect to, whoever is behind it
	front := listen(address, primary)
	t.Cleanup(func() { front.Close() })
	w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), "unix://"+address)
	at := func(server *private.Server) *world.World {
		other := world.SetupOn(t, w.DB, server.URL())
		other.Stream = w.Stream
		return other
	}
	old, promoted := at(primary), at(replica)

	host, port, err := net.SplitHostPort(link.Addr())
	w.Must(err)
	promoted.Command("REPLICAOF", host, port)
	l := startLoad(w)
	w.Await("the replica to have something", func() string {
		if promoted.LogLength() == 0 {
			return "nothing"
		}
		return ""
	})
	promoted.Command("REPLICAOF", "NO", "ONE") // it lags from here on
	has := len(promoted.Offsets())
	w.AwaitTrue("the consumers to pass the replica", `SELECT min("offset") > $1 FROM unilog.checkpoints`, has)

	front.Close()
	front = listen(address, replica)
	reconnect(w)
	l.goOn()
	l.finish()
	before, after := entries(old), entries(promoted)
	if len(after) < len(before) || !reflect.DeepEqual(after[:len(before)], before) {
		t.Errorf("the %d entries before the failover are not the first of the %d after it", len(before), len(after))
	}
}

func entries(w *world.World) []rueidis.XRangeEntry {
	w.Helper()
	entries, err := w.Command("XRANGE", w.Stream, "-", "+").AsXRange()
	w.Must(err)
	return entries
}
