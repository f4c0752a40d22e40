package bench

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/private"
)

// connectTime is for pgbench's clients to connect in, which counts as its time
// but not in its rate.
const connectTime = 3 * time.Second

var (
	pgbenchRate  = regexp.MustCompile(`(?m)^tps = ([0-9.]+)`)
	redisRate    = regexp.MustCompile(`([0-9.]+) requests per second`)
	producerRate = regexp.MustCompile(`records sent, ([0-9.]+) records/sec`)
)

// pgbench measures how many bookings a second Postgres takes.
func (w *world) pgbench(ctx context.Context, clients int) (limit, error) {
	path := private.Tool(ctx, "pgbench")
	if path == "" {
		return limit{name: "no pgbench here"}, nil
	}
	script := filepath.Join(w.dir, "booking.sql")
	if err := os.WriteFile(script, []byte(pgbenchScript), 0o644); err != nil {
		return limit{}, err
	}
	seconds := int((w.d + connectTime) / time.Second)
	w.progress.show(0.5, fmt.Sprintf("pgbench for %d s", seconds))
	rate, err := run(ctx, pgbenchRate, path, "--no-vacuum", "--protocol=prepared", fmt.Sprintf("--client=%d", clients),
		fmt.Sprintf("--jobs=%d", min(clients, 2)), fmt.Sprintf("--time=%d", seconds), "--file="+script, w.databaseURL)
	return limit{fmt.Sprintf("pgbench, one statement, %s", plural(clients, "client")), rate}, err
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return number(float64(n)) + " " + what + "s"
}

// redisBenchmark measures how many records a second Redis takes, with the
// fields and the size of those of the log, from one client for each partition: a
// log that is in order has one writer. Fifty would get twice as much as one, as
// they share the syncs to disk.
func (w *world) redisBenchmark(ctx context.Context, records, writers int) (limit, error) {
	const key = "limit"
	l, err := w.benchmarkXADD(ctx, records, writers, key, "-s", w.servers.socket)
	if err != nil {
		return limit{}, err
	}
	return l, w.redis.Do(ctx, w.redis.B().Unlink().Key(key).Build()).Error()
}

func (w *world) benchmarkXADD(ctx context.Context, records, writers int, key string, server ...string) (limit, error) {
	path := private.Tool(ctx, "redis-benchmark", "valkey-benchmark")
	if path == "" {
		return limit{name: "no redis-benchmark here"}, nil
	}
	w.progress.show(0.9, filepath.Base(path))
	rate, err := run(ctx, redisRate, path, append(server, "-q", "-c", strconv.Itoa(writers), "-P", "1000", "-n", strconv.Itoa(max(records, 10_000)),
		"XADD", key, "*", "data", `{"id": 123456, "distance": 123.45}`,
		"action", "create", "object", "ride", "staged_at", "1700000000000000", "key", "123456")...)
	return limit{"redis-benchmark XADD, " + plural(writers, "client") + ", pipelined", rate}, err
}

// pgbenchArchive measures how many records a second Postgres takes in the batches
// of the numbering, which is one writer for all partitions.
func (w *world) pgbenchArchive(ctx context.Context, records, _ int) (limit, error) {
	path := private.Tool(ctx, "pgbench")
	if path == "" {
		return limit{name: "no pgbench here"}, nil
	}
	script := filepath.Join(w.dir, "archive.sql")
	if err := os.WriteFile(script, []byte(pgbenchArchiveScript), 0o644); err != nil {
		return limit{}, err
	}
	if _, err := w.db.Exec(ctx, sqlArchiveLimit); err != nil {
		return limit{}, fmt.Errorf("make a table: %w", err)
	}
	w.progress.show(0.9, "pgbench")
	batches := max(1, records/archiveBatch)
	rate, err := run(ctx, pgbenchRate, path, "--no-vacuum", "--protocol=prepared", "--client=1",
		fmt.Sprintf("--transactions=%d", batches), "--file="+script, w.databaseURL)
	return limit{"pgbench, INSERT of 5,000, 1 client", rate * archiveBatch}, err
}

// run runs a program and returns the last rate that it prints.
func run(ctx context.Context, rate *regexp.Regexp, path string, args ...string) (float64, error) {
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	if ctx.Err() != nil {
		return 0, ctx.Err() // it was killed
	}
	if err != nil {
		return 0, fmt.Errorf("%s: %w: %s", filepath.Base(path), err, strings.Join(strings.Fields(string(out)), " "))
	}
	all := rate.FindAllSubmatch(out, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("%s prints no rate: %s", filepath.Base(path), strings.Join(strings.Fields(string(out)), " "))
	}
	return strconv.ParseFloat(string(all[len(all)-1][1]), 64)
}
