package endtoend_test

import (
	"errors"
	"net"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestForgetfulRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"that syncs once a second": {"--appendfsync", "everysec"},
		"that keeps nothing":       {"--appendonly", "no", "--save", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t, args...)
			w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				w.Must(server.Kill())
				server = testenv.Restart(t, server)
				reconnect(w)
			}
			l.goOn()
			l.finish()
		})
	}
}

// reconnect lets the test's own client notice that it has lost its connection.
func reconnect(w *world.World) {
	w.Helper()
	w.Await("Redis to answer", func() string {
		err := w.Redis.Do(w.Ctx, w.Redis.B().Ping().Build()).Error()
		if _, answered := rueidis.IsRedisErr(err); err == nil || answered {
			return ""
		}
		return err.Error()
	})
}

func TestStrangersUnderLoad(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(w *world.World){
		"trim everything":      func(w *world.World) { w.Command("XTRIM", w.Stream, "MAXLEN", "0") },
		"delete the stream":    func(w *world.World) { w.Command("DEL", w.Stream) },
		"flush everything":     func(w *world.World) { w.Command("FLUSHALL") },
		"flush the scripts":    func(w *world.World) { w.Command("SCRIPT", "FLUSH") },
		"cut every connection": func(w *world.World) { w.Command("CLIENT", "KILL", "TYPE", "normal") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), testenv.Redis(t).URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				spoil(w)
			}
			l.goOn()
			w.Wipe() // what was trimmed comes back in the stream only if that is rebuilt
			l.finish()
		})
	}
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
	w.AwaitTrue("the consumers to pass the replica", `SELECT min("offset") > $1 FROM checkpoints`, has)

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

// TestIDsByTheClock: an offset is no time, so Redis's clock may jump. An entry
// whose id is a time is a stranger's, beyond any offset, and taken for nothing.
func TestIDsByTheClock(t *testing.T) {
	t.Parallel()
	for name, fields := range map[string][]string{
		"with fields of its own": {"sensor", "1"},
		"like a record":          {"data", `{"amount":1000}`, "action", "note", "object", "amount", "staged_at", "1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			leader, c := w.Streamer(), w.Consumer("sum")
			w.CommitMany(5)
			w.Drain(leader)
			w.Consume(c)
			w.Command(append([]string{"XADD", w.Stream, "*"}, fields...)...)

			if _, err := c.RunOnce(w.Ctx); err == nil {
				t.Error("the consumer reads it")
			}
			var ahead *unilog.LogAheadError
			w.CommitMany(5)
			if _, err := leader.RunOnce(w.Ctx); !errors.As(err, &ahead) || !strings.Contains(err.Error(), "somebody else") {
				t.Errorf("the leader says %v", err)
			}
			if _, err := w.Streamer().RunOnce(w.Ctx); !errors.As(err, &ahead) || ahead.Database != 10 {
				t.Errorf("the next one says %v", err)
			}
			w.Command("DEL", w.Stream) // the way out that the message gives
			w.Drain(leader)
			w.Consume(c)
			w.WantTotal("sum", "10")
		})
	}
}
