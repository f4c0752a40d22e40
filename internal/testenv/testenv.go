// Package testenv gives tests real servers: one private Postgres and Redis for all
// test binaries of a run, started when first asked for, a database of its own for
// each test, and servers of a test's own to kill.
//
// A package that uses it hands its TestMain over:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
package testenv

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/redisnodes"
)

// startTimeout bounds the start and the stop of one server.
const startTimeout = await.Patience

// shared is what this test process keeps until its end.
var shared struct {
	keeper   keeperClient
	base     func() (*baseDir, error)
	cluster  func() (*Nodes, error)
	sentinel func() (*Nodes, error)

	mu    sync.Mutex
	nodes []*Nodes
}

func init() {
	shared.base = sync.OnceValues(newBase)
	shared.cluster = sync.OnceValues(func() (*Nodes, error) { return startNodes(redisnodes.StartSteadyCluster) })
	shared.sentinel = sync.OnceValues(func() (*Nodes, error) { return startNodes(redisnodes.StartSteadySentinel) })
}

// Main runs the tests, fails if goroutines are left behind, stops the servers of
// this process, removes their files, and exits.
func Main(m *testing.M, opts ...goleak.Option) {
	code := m.Run()
	for _, n := range shared.nodes {
		n.CloseClients()
	}
	closeAdministration()
	if code == 0 {
		opts = append(opts,
			// The shared nodes are stopped below.
			goleak.IgnoreAnyFunction("github.com/rocketrides/unilog/internal/private.(*Server).wait"),
			goleak.IgnoreAnyFunction("github.com/rocketrides/unilog/internal/private/child.(*Process).run"),
			// A closed client of a cluster sleeps before it sees that there is nothing to do.
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"),
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
			goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient).redirectOrNew.func1"))
		if err := goleak.Find(opts...); err != nil {
			fmt.Fprintln(os.Stderr, "leaked goroutines:", err)
			code = 1
		}
	}
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func stop() error {
	for _, n := range shared.nodes {
		if err := n.Stop(); err != nil {
			return err
		}
	}
	stopKafka()
	if err := dropTemplates(); err != nil {
		return err
	}
	closeAdministration()
	shared.keeper.close()
	if base, err := shared.base(); err == nil {
		return base.remove()
	}
	return nil
}

type starter = func(context.Context, private.Options) (*private.Server, error)

// startIn starts a server in a fresh directory of this process's.
func startIn(start starter, o private.Options) (*private.Server, error) {
	base, err := shared.base()
	if err != nil {
		return nil, err
	}
	if o.Dir, err = os.MkdirTemp(base.path, ""); err != nil {
		return nil, err
	}
	// Root's Postgres has to pass through under another user.
	if err := os.Chmod(o.Dir, 0o711); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	return start(ctx, o)
}

// Postgres starts a Postgres of the test's own, which the test may kill, and
// start again with private.StartPostgres(ctx, server.Options()). It and its
// data are gone after the test.
func Postgres(t testing.TB, args ...string) *private.Server {
	t.Helper()
	return own(t, private.StartPostgres, private.Options{InitCache: initCache(), ExtraArgs: args})
}

// Redis starts a Redis of the test's own that syncs every write to disk, unless
// args say otherwise. See Postgres.
func Redis(t testing.TB, args ...string) *private.Server {
	t.Helper()
	return own(t, private.StartRedis, private.Options{Durable: true, ExtraArgs: args})
}

func own(t testing.TB, start starter, o private.Options) *private.Server {
	t.Helper()
	s, err := startIn(start, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.Quit()
		if err := private.Remove(context.Background(), s.Options().Dir); err != nil {
			t.Errorf("remove a server's files: %v", err)
		}
	})
	return s
}

// Restart starts a server of the test's own again, at the same URL, once it
// has ended, and ends it with the test.
func Restart(t testing.TB, s *private.Server) *private.Server {
	t.Helper()
	<-s.Done()
	start := private.StartPostgres
	if strings.HasPrefix(s.URL(), "unix:") {
		start = private.StartRedis
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := start(ctx, s.Options())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Quit)
	return s
}

// SharedRedis returns the URL of the Redis that all tests of a run share: use
// StreamName, and leave FLUSHALL to servers of the test's own.
func SharedRedis(t testing.TB) string {
	t.Helper()
	url, err := shared.keeper.url("redis")
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// StreamName returns a name that no other test uses.
func StreamName(t testing.TB) string {
	t.Helper()
	return "test-" + strings.ToLower(rand.Text()[:12])
}

// URLs returns those of the servers that all tests of a run share, for code that has
// no test to ask for a database.
func URLs() (postgres, redis string, err error) {
	if postgres, err = shared.keeper.url("postgres"); err == nil {
		redis, err = shared.keeper.url("redis")
	}
	return postgres, redis, err
}

// initCache is where a cluster is kept that initdb has made, "" for nowhere.
func initCache() string {
	dir, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "unilog")
}
