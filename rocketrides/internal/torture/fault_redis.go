package torture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/rueidis"
)

// everyRedisFaults befall Redis, or each master of several.
var everyRedisFaults = []fault{
	{name: "flush-redis", does: "FLUSHALL: everything in Redis is lost", inject: command("FLUSHALL")},
	{name: "drop-clients", does: "CLIENT KILL of all connections", inject: command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")},
}

// redisFaults befall one Redis and the log in it.
var redisFaults = slices.Concat(everyRedisFaults, []fault{
	{name: "kill-redis", does: "SIGKILL to Redis", inject: server("redis", syscall.SIGKILL)},
	{name: "restart-redis", does: "SIGTERM to Redis", inject: server("redis", syscall.SIGTERM)},
	{name: "freeze-redis", does: "SIGSTOP to Redis for up to 3 s", inject: freezeRedis},
	{name: "delete-stream", does: "DEL of a partition's stream", inject: streamCommand("DEL")},
	{name: "trim-stream", does: "XTRIM of a partition's stream to nothing", inject: streamCommand("XTRIM", "MAXLEN", "0")},
	{name: "restore-redis", does: "a partition's log is what it was up to 1 s before, as after a failover to a replica that lags", inject: restoreStream},
	{name: holeFault, does: "XDEL of entries before the newest", inject: holeInStream},
	{name: "flush-scripts", does: "SCRIPT FLUSH", inject: command("SCRIPT", "FLUSH")},
	{name: "busy-redis", does: "a script that keeps Redis busy for up to 2 s", inject: busyRedis},
	{name: "fill-redis", does: "no memory is left in Redis for up to 2 s", inject: fillRedis},
	{name: "readonly-redis", does: "Redis is a replica, which takes no writes, for up to 2 s", inject: replicaRedis},
})

// holeFault leaves holes, which consumers fill from the archive.
const holeFault = "hole-in-stream"

// command has Redis, or each master of several, do something.
func (t *torture) command(ctx context.Context, args ...string) error {
	if t.redis != nil {
		return t.redis.Do(ctx, t.redis.B().Arbitrary(args...).Build()).Error()
	}
	var errs []error
	for _, node := range t.nodes.Servers {
		if isMaster(ctx, node) {
			errs = append(errs, node.Do(ctx, args...).Error())
		}
	}
	return errors.Join(errs...)
}

// streamKey is that of any partition.
func (x *injection) streamKey() string {
	if p := x.random.IntN(x.Partitions); p > 0 {
		return stream + ":" + strconv.Itoa(p)
	}
	return stream
}

func streamCommand(name string, args ...string) func(context.Context, *injection) error {
	return func(ctx context.Context, x *injection) error {
		return x.command(ctx, append([]string{name, x.streamKey()}, args...)...)
	}
}

func command(args ...string) func(context.Context, *injection) error {
	return func(ctx context.Context, x *injection) error { return x.command(ctx, args...) }
}

func freezeRedis(ctx context.Context, x *injection) error {
	if err := x.system.Signal("redis", syscall.SIGSTOP); err != nil {
		return err
	}
	pause(ctx, x.lasting(3*time.Second))
	return x.system.Signal("redis", syscall.SIGCONT)
}

// restoreStream brings back the log as it was a while ago.
func restoreStream(ctx context.Context, x *injection) error {
	key := x.streamKey()
	keys := []string{key, "{" + key + "}:leader"}
	restore := make(rueidis.Commands, len(keys))
	for i, key := range keys {
		before, err := x.redis.Do(ctx, x.redis.B().Dump().Key(key).Build()).ToString()
		if err != nil {
			return fmt.Errorf("%w: %w", errNotNow, err)
		}
		restore[i] = x.redis.B().Restore().Key(key).Ttl(0).SerializedValue(before).Replace().Build()
	}
	pause(ctx, x.lasting(time.Second))
	for _, result := range x.redis.DoMulti(ctx, slices.Concat(
		rueidis.Commands{x.redis.B().Multi().Build()}, restore, rueidis.Commands{x.redis.B().Exec().Build()})...) {
		if err := result.Error(); err != nil {
			return err
		}
	}
	return nil
}

func holeInStream(ctx context.Context, x *injection) error {
	key := x.streamKey()
	newest, err := x.newest(ctx, key, 2+x.random.IntN(20))
	if err != nil || len(newest) < 2 {
		return errors.Join(errNotNow, err)
	}
	n, err := x.redis.Do(ctx, x.redis.B().Xdel().Key(key).Id(newest[1:]...).Build()).AsInt64()
	atomic.AddInt64(&x.deleted, n)
	return err
}

// newest returns the ids of the last entries, the newest one first.
func (x *injection) newest(ctx context.Context, key string, n int) ([]string, error) {
	entries, err := x.redis.Do(ctx, x.redis.B().Xrevrange().Key(key).End("+").Start("-").Count(int64(n)).Build()).AsXRange()
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	return ids, err
}

// busyRedis keeps Redis in a script, and has it say so soon.
func busyRedis(ctx context.Context, x *injection) error {
	if err := x.command(ctx, "CONFIG", "SET", "lua-time-limit", "100"); err != nil {
		return err
	}
	d := x.lasting(2 * time.Second)
	const script = `
		local function now() local t = redis.call('TIME'); return t[1] * 1000000 + t[2] end
		local ends = now() + ARGV[1]
		while now() < ends do end
		return 1`
	return x.command(ctx, "EVAL", script, "0", strconv.FormatInt(d.Microseconds(), 10))
}

func fillRedis(ctx context.Context, x *injection) error {
	return x.setFor(ctx, "maxmemory", "1", "0")
}

// setFor sets a configuration parameter for a while.
func (x *injection) setFor(ctx context.Context, name, bad, good string) error {
	if err := x.command(ctx, "CONFIG", "SET", name, bad); err != nil {
		return err
	}
	pause(ctx, x.lasting(2*time.Second))
	return mend(ctx, func(ctx context.Context) error { return x.command(ctx, "CONFIG", "SET", name, good) })
}

// replicaRedis makes Redis follow a server that is not there.
func replicaRedis(ctx context.Context, x *injection) error {
	if err := x.command(ctx, "REPLICAOF", "127.0.0.1", "1"); err != nil {
		return err
	}
	pause(ctx, x.lasting(2*time.Second))
	return mend(ctx, func(ctx context.Context) error { return x.command(ctx, "REPLICAOF", "NO", "ONE") })
}
