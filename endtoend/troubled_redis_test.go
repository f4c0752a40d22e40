package endtoend_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

// redisFaults are what Redis may say instead of serving, and how it comes to.
// Where writing or reading goes on, or waits, that side has nothing to say.
var redisFaults = []struct {
	name, says                   string
	streamerQuiet, consumerQuiet bool
	trims                        bool // the streamer makes room, and the archive has the rest
	begin, mended                func(r *troubledRedis)
}{
	{
		name: "is full", says: "OOM", consumerQuiet: true, trims: true,
		begin:  func(r *troubledRedis) { r.Command("CONFIG", "SET", "maxmemory", "1") },
		mended: func(r *troubledRedis) { r.Command("CONFIG", "SET", "maxmemory", "0") },
	},
	{
		name: "is a replica", says: "READONLY", consumerQuiet: true,
		begin:  func(r *troubledRedis) { r.Command("REPLICAOF", "127.0.0.1", "1") },
		mended: func(r *troubledRedis) { r.Command("REPLICAOF", "NO", "ONE") },
	},
	{
		name: "is a replica that has lost its primary", says: "MASTERDOWN",
		begin: func(r *troubledRedis) {
			r.Command("CONFIG", "SET", "replica-serve-stale-data", "no")
			r.Command("REPLICAOF", "127.0.0.1", "1")
		},
		mended: func(r *troubledRedis) { r.Command("REPLICAOF", "NO", "ONE") },
	},
	{
		name: "lacks replicas", says: "NOREPLICAS", consumerQuiet: true,
		begin:  func(r *troubledRedis) { r.Command("CONFIG", "SET", "min-replicas-to-write", "1") },
		mended: func(r *troubledRedis) { r.Command("CONFIG", "SET", "min-replicas-to-write", "0") },
	},
	{
		name: "cannot save", says: "MISCONF", consumerQuiet: true,
		begin: func(r *troubledRedis) {
			r.Must(os.Mkdir(r.dump(), 0o700)) // a directory is in the way of the file
			r.Command("CONFIG", "SET", "save", "3600 1")
			r.save("err")
		},
		mended: func(r *troubledRedis) {
			r.Must(os.Remove(r.dump()))
			r.save("ok")
		},
	},
	{
		name: "runs a script without end", says: "BUSY", consumerQuiet: true,
		begin: func(r *troubledRedis) {
			r.Command("CONFIG", "SET", "lua-time-limit", "1")
			client, release := r.Redis.Dedicate()
			r.work.Go(func() error {
				defer release()
				_ = client.Do(context.Background(), client.B().Eval().Script("while true do end").Numkeys(0).Build())
				return nil
			})
			r.Await("Redis to be busy", func() string {
				err := r.Redis.Do(r.Ctx, r.Redis.B().Get().Key("x").Build()).Error()
				if err != nil && strings.Contains(err.Error(), "BUSY") {
					return ""
				}
				return fmt.Sprint("it says ", err)
			})
		},
		mended: func(r *troubledRedis) { r.Command("SCRIPT", "KILL") },
	},
	{
		name: "asks for another password", says: "WRONGPASS",
		begin: func(r *troubledRedis) {
			r.Command("ACL", "SETUSER", "app", "resetpass", ">another")
			r.Command("CLIENT", "KILL", "USER", "app")
		},
		mended: func(r *troubledRedis) { r.Command("ACL", "SETUSER", "app", ">secret") },
	},
	{
		name: "forbids its commands", says: "NOPERM",
		begin:  func(r *troubledRedis) { r.Command("ACL", "SETUSER", "app", "-@all") },
		mended: func(r *troubledRedis) { r.Command("ACL", "SETUSER", "app", "+@all") },
	},
	{
		name: "has too many clients", says: "redis.sock|max number of clients|EOF", // it says so and hangs up, before it is asked
		begin: func(r *troubledRedis) {
			r.occupy("CONFIG SET maxclients 1")
			r.occupy("CLIENT KILL USER app")
		},
		mended: func(r *troubledRedis) { r.occupy("CONFIG SET maxclients 100") },
	},
	{
		name: "is loading", says: "LOADING",
		begin: func(r *troubledRedis) {
			r.Command("EVAL", "for i = 1, 10000 do redis.call('SET', i, string.rep('x', 1024)) end", "0")
			r.Command("SAVE")
			r.Must(r.server.Kill())
			<-r.server.Done()
			r.work.Go(func() error { // it returns when all is loaded
				server, err := private.StartRedis(r.Ctx, r.server.Options())
				if err == nil {
					r.Cleanup(func() {
						_ = server.Kill()
						<-server.Done()
					})
				}
				return err
			})
		},
		mended: func(r *troubledRedis) {
			reconnect(r.World)
			r.Command("CONFIG", "SET", "key-load-delay", "0")
			r.Ended("the start of Redis", &r.work)
		},
	},
	{
		name: "holds another type", says: "WRONGTYPE",
		begin: func(r *troubledRedis) {
			r.Command("DEL", r.Stream)
			r.Command("SET", r.Stream, "a stranger's")
		},
		mended: func(r *troubledRedis) { r.Command("DEL", r.Stream) },
	},
	{
		name: "holds a stranger's entry", says: "was not written by unilog", streamerQuiet: true,
		begin:  func(r *troubledRedis) { r.Command("XADD", r.Stream, "10-7", "data", "1") },
		mended: func(r *troubledRedis) { r.Command("XDEL", r.Stream, "10-7") },
	},
}

// TestRedisInTrouble sees that a streamer and a consumer say what Redis says,
// in one line, less and less often, and that they go on by themselves once it
// is mended.
func TestRedisInTrouble(t *testing.T) {
	t.Parallel()
	for _, fault := range redisFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			r := startTroubledRedis(t)
			r.CommitMany(10)
			r.AwaitTotal("sum", "10")
			fault.begin(r)
			r.CommitMany(10)
			if !fault.streamerQuiet {
				r.streaming.awaitComplaints(r.World, fault.says)
			}
			if !fault.consumerQuiet {
				r.consuming.awaitComplaints(r.World, fault.says)
			}
			r.CommitMany(10)
			fault.mended(r)
			r.AwaitTotal("sum", "30")
			r.CommitMany(10)
			r.AwaitTotal("sum", "40")
			r.stop()
			r.Ended("the processes", &r.processes)
			offsets := r.Offsets()
			r.WantCount("the last offset of the stream", int(offsets[len(offsets)-1]), 40)
			if !fault.trims {
				r.WantCount("stream entries", len(offsets), 40)
			}
			r.CheckArchive()
			r.CheckLog()
			r.CheckAudit()
		})
	}
}

// troubledRedis is a world with a Redis of its own, and a streamer and a consumer
// that run there as the user app: the test itself is not shut out with them.
type troubledRedis struct {
	*world.World
	server               *private.Server
	processes, work      errgroup.Group
	stop                 context.CancelFunc
	streaming, consuming complaints
	place                net.Conn // that is kept, if not nil
}

func startTroubledRedis(t *testing.T) *troubledRedis {
	t.Helper()
	server := testenv.Redis(t, "--appendonly", "no", // so that it loads the dump, slowly, and answers after each KiB
		"--rdbcompression", "no", "--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024",
		"--user", "app", "on", ">secret", "~*", "&*", "+@all")
	r := &troubledRedis{World: world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL()), server: server}
	// One that is only slow must not be complained of between the lines that are awaited.
	log, err := redislog.Open(r.Ctx, testenv.PatientRedis(strings.Replace(server.URL(), "unix://", "unix://app:secret@", 1)), r.Stream)
	r.Must(err)
	t.Cleanup(log.Close)
	ctx, stop := context.WithCancel(r.Ctx)
	r.stop = stop
	s := r.Streamer(func(cfg *streamer.Config) { cfg.Log, cfg.Logger = log, slog.New(&r.streaming) })
	c := r.Consumer("sum", func(cfg *consumer.Config) { cfg.Log, cfg.Logger = log, slog.New(&r.consuming) })
	r.processes.Go(func() error { return s.Run(ctx) })
	r.processes.Go(func() error { return c.Run(ctx) })
	t.Cleanup(func() { // before the streamer resigns, also when the test has failed
		stop()
		_ = r.processes.Wait()
		_ = server.Kill()
		_ = r.work.Wait()
	})
	return r
}

// occupy runs a command on a connection that only the test's end closes. The test's client
// gives its own up when Redis is slow, and then there is a place for another.
func (r *troubledRedis) occupy(command string) {
	r.Helper()
	if r.place == nil {
		var err error
		r.place, err = net.Dial("unix", strings.TrimPrefix(r.server.URL(), "unix://"))
		r.Must(err)
		r.Cleanup(func() { _ = r.place.Close() })
	}
	_, err := fmt.Fprint(r.place, command, "\r\n")
	r.Must(err)
	r.Must(r.place.SetReadDeadline(time.Now().Add(await.Patience)))
	if answer, err := bufio.NewReader(r.place).ReadString('\n'); err != nil || answer[0] == '-' {
		r.Fatal(command, ": ", answer, err)
	}
}

// dump is the file that Redis saves to.
func (r *troubledRedis) dump() string {
	return filepath.Join(r.server.Options().Dir, "data", "dump.rdb")
}

// save lets Redis save, until it says how that went.
func (r *troubledRedis) save(status string) {
	r.Helper()
	r.Command("BGSAVE")
	r.Await("Redis to have saved, with status "+status, func() string {
		info, err := r.Command("INFO", "persistence").ToString()
		r.Must(err)
		if strings.Contains(info, "rdb_bgsave_in_progress:0") && strings.Contains(info, "rdb_last_bgsave_status:"+status) {
			return ""
		}
		return info
	})
}

// complaints are what was logged as a warning, and when.
type complaints struct {
	mu    sync.Mutex
	lines []string
	times []time.Time
}

func (c *complaints) Enabled(_ context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn
}
func (c *complaints) WithAttrs([]slog.Attr) slog.Handler { return c }
func (c *complaints) WithGroup(string) slog.Handler      { return c }

func (c *complaints) Handle(_ context.Context, r slog.Record) error {
	if strings.HasPrefix(r.Message, "the log is out of memory: keeping only") {
		return nil // what it does about it, before it complains
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	c.lines, c.times = append(c.lines, line), append(c.times, time.Now())
	return nil
}

// givenUp is what a client says of a server that was too slow for it.
const givenUp = "context deadline exceeded|use of closed network connection|i/o timeout"

// saysOneOf says whether a line has one of the words that | separates.
func saysOneOf(line, words string) bool {
	return slices.ContainsFunc(strings.Split(words, "|"), func(w string) bool { return strings.Contains(line, w) })
}

// awaitComplaints waits for six lines in a row that give a reason, each after twice the least
// wait of the one before. Where the machine is slow, a call or a connection may be given up, or a
// process begin anew to try: then it is of those that follow.
func (c *complaints) awaitComplaints(w *world.World, says string) {
	w.Helper()
	const many = 6
	w.Await(fmt.Sprintf("%d complaints of %s, less and less often", many, says), func() string {
		c.mu.Lock()
		defer c.mu.Unlock()
		first := 0
		for first < len(c.lines) && !saysOneOf(c.lines[first], says) {
			first++
		}
		row := 0 // as many have come less and less often
		for i := first; i < len(c.lines); i++ {
			line := c.lines[i]
			complains := saysOneOf(line, says) && !strings.Contains(line, "\n")
			switch {
			case !complains && saysOneOf(line, givenUp):
				row = 0
			case !complains:
				w.Fatal(fmt.Sprintf("complaint number %d does not say %s in one line: %q", i-first, says, line))
			// The first wait is of 5 to 10 ms, and each following one twice as long.
			case row > 0 && c.times[i].Sub(c.times[i-1]) < 5*time.Millisecond<<(row-1):
				row = 1
			default:
				row++
			}
			if row == many {
				return ""
			}
		}
		return fmt.Sprintf("%q, at %v", c.lines, c.times)
	})
}

// TestEvictingRedisIsRefused: a log that Redis may drop to make room would be
// dropped and published again without end.
func TestEvictingRedisIsRefused(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL())
	w.Commit("1")
	var setting *unilog.LogSettingError
	err := w.Streamer().Run(w.Ctx)
	if !errors.As(err, &setting) || !strings.Contains(err.Error(), "maxmemory-policy is allkeys-lru: set it to noeviction") {
		t.Fatalf("the streamer says %v", err)
	}
	w.Command("CONFIG", "SET", "maxmemory-policy", "noeviction")
	w.Drain(w.Streamer())
	w.Consume(w.Consumer("sum"))
	w.WantTotal("sum", "1")
}
