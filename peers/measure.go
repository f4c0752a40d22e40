package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"time"

	"github.com/rocketrides/unilog/internal/cputime"
)

// figures are what was measured of a peer in a round, by name.
type figures map[string]float64

// The figures' names, in the order of the table.
const (
	drainRate     = "drain, records/s"
	relayCPU      = "relay, CPU, µs a record"
	postgresCPU   = "Postgres, CPU, µs a record"
	redisCPU      = "Redis, CPU, µs a record"
	stagingCPU    = "Postgres, staging, µs a record"
	walBytes      = "WAL, staging and draining, bytes a record"
	memory        = "relay, memory at most, MB"
	firstAfter    = "from its start to the first record, s"
	p50           = "from commit to log, p50, ms"
	p99           = "from commit to log, p99, ms"
	trickleCPU    = "relay, CPU at 100 records/s, % of a core"
	idleStatement = "idle, statements/s"
	idleCPU       = "idle, relay, CPU, % of a core"
	idlePostgres  = "idle, Postgres, CPU, % of a core"
)

var figureNames = []string{
	drainRate, relayCPU, postgresCPU, redisCPU, stagingCPU, walBytes, memory, firstAfter,
	p50, p99, trickleCPU, idleStatement, idleCPU, idlePostgres,
}

// used is what a relay and its servers have used so far.
type used struct {
	relay, postgres, redis time.Duration
	wal                    float64
	at                     time.Time
	entries                int
}

func (w *world) used(ctx context.Context, r *relay) (u used, err error) {
	if u.entries, err = w.length(ctx); err != nil {
		return u, err
	}
	u.at = time.Now()
	if r != nil {
		if u.relay, err = cputime.Of(r.Pid()); err != nil {
			return u, err
		}
	}
	if u.postgres, err = cputime.Of(w.postgres.Pid()); err != nil {
		return u, err
	}
	if u.redis, err = cputime.Of(w.redisServer.Pid()); err != nil {
		return u, err
	}
	err = w.db.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8`).Scan(&u.wal)
	return u, err
}

// measure stages a backlog while the relay is down, and measures the drain; then single
// records; then nothing.
func measure(ctx context.Context, w *world, records int, f figures) error {
	if err := w.warmed(ctx); err != nil {
		return err
	}
	before, err := w.used(ctx, nil)
	if err != nil {
		return err
	}
	if err := w.stageAll(ctx, between(1, records), stagedAtOnce); err != nil {
		return err
	}
	staged, err := w.used(ctx, nil)
	if err != nil {
		return err
	}
	f[stagingCPU] = microseconds(staged.postgres-before.postgres) / float64(records)
	r, err := w.startRelay()
	if err != nil {
		return err
	}
	drained, err := w.drain(ctx, r, staged, records, f)
	if err != nil {
		return err
	}
	f[postgresCPU] = microseconds(drained.postgres-staged.postgres) / float64(records)
	f[redisCPU] = microseconds(drained.redis-staged.redis) / float64(records)
	f[walBytes] = (drained.wal - before.wal) / float64(records)
	stream, err := w.ids(ctx)
	if err != nil {
		return err
	}
	if v := judge(between(0, records), stream); !v.clean() {
		return fmt.Errorf("nothing was wrong, and yet: %v", v)
	}
	return w.trickle(ctx, r, records+1, f)
}

// drain measures from the first moment at which some records have arrived until all
// have, and returns what was used when the relay had nothing left to do.
func (w *world) drain(ctx context.Context, r *relay, staged used, records int, f figures) (u used, err error) {
	started, first, last := time.Now(), used{}, used{}
	held, err := w.await(ctx, lookPause, func() (bool, error) {
		n, err := w.length(ctx)
		if err == nil && n > staged.entries && first.at.IsZero() {
			first, err = w.used(ctx, r)
		}
		return n >= staged.entries+records, err
	})
	if err == nil && !held {
		err = fmt.Errorf("the backlog has not arrived within %v", patience)
	}
	if err != nil {
		return u, err
	}
	if last, err = w.used(ctx, r); err != nil {
		return u, err
	}
	f[memory] = highWater(r.Pid())
	f[firstAfter] = first.at.Sub(started).Seconds()
	if n := float64(last.entries - first.entries); n > 0 {
		f[drainRate] = n / last.at.Sub(first.at).Seconds()
		f[relayCPU] = microseconds(last.relay-first.relay) / n
	}
	time.Sleep(aftermath)
	return w.used(ctx, r)
}

func microseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// highWater is the most memory that a process had, in MB.
func highWater(pid int) float64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, text, _ = bytes.Cut(text, []byte("VmHWM:"))
	var kib float64
	_, _ = fmt.Sscanf(string(text), "%f", &kib)
	return kib * 1024 / 1e6
}

// How records come one by one, for how long, and for how long nothing comes then.
const (
	trickleRate = 100 // a second
	trickleFor  = 3 * time.Second
	idleFor     = 3 * time.Second
)

// trickle measures how long single records take that come at random times, and what
// the relay costs meanwhile, and then what it costs while nothing comes.
func (w *world) trickle(ctx context.Context, r *relay, first int, f figures) error {
	if err := w.atRandom(ctx, first, time.Second, &commits{at: map[int]time.Time{}}); err != nil {
		return err
	}
	seen, err := w.observe(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if seen != nil {
			seen.stop()
		}
	}()
	before, err := w.used(ctx, r)
	if err != nil {
		return err
	}
	committed := commits{at: map[int]time.Time{}}
	if err := w.atRandom(ctx, first+100*trickleRate, trickleFor, &committed); err != nil {
		return err
	}
	after, err := w.used(ctx, r)
	if err != nil {
		return err
	}
	held, err := w.await(ctx, slowPause, func() (bool, error) { return seen.count(committed.at) == len(committed.at), nil })
	if err != nil || !held {
		return errors.Join(err, fmt.Errorf("%d of %d records arrived", seen.count(committed.at), len(committed.at)))
	}
	waits := seen.waits(committed.at)
	slices.Sort(waits)
	f[p50] = microseconds(waits[len(waits)/2]) / 1000
	f[p99] = microseconds(waits[len(waits)*99/100]) / 1000
	f[trickleCPU] = percent(after.relay-before.relay, after.at.Sub(before.at))
	seen.stop()
	seen = nil
	return w.idle(ctx, r, f)
}

// atRandom commits records one by one for some time.
func (w *world) atRandom(ctx context.Context, first int, d time.Duration, committed *commits) error {
	random := rand.New(rand.NewPCG(uint64(first), 0))
	due := time.Now()
	for id, end := first, due.Add(d); due.Before(end); id++ {
		if err := w.commit(ctx, []int{id}); err != nil {
			return err
		}
		committed.note(id)
		due = due.Add(time.Duration(random.ExpFloat64() / trickleRate * float64(time.Second)))
		time.Sleep(time.Until(due))
	}
	return nil
}

// idle counts, in the log of Postgres, each statement and what else a relay asks.
func (w *world) idle(ctx context.Context, r *relay, f figures) error {
	for _, sql := range []string{`ALTER SYSTEM SET log_statement = 'all'`, `ALTER SYSTEM SET log_replication_commands = on`, `SELECT pg_reload_conf()`} {
		if _, err := w.db.Exec(ctx, sql); err != nil {
			return err
		}
	}
	time.Sleep(settled) // all sessions have read it, and nothing of before is left to do
	before, err := w.used(ctx, r)
	if err != nil {
		return err
	}
	statements := w.statements()
	time.Sleep(idleFor)
	statements = w.statements() - statements
	after, err := w.used(ctx, r)
	if err != nil {
		return err
	}
	d := after.at.Sub(before.at)
	f[idleStatement] = float64(statements) / d.Seconds()
	f[idleCPU] = percent(after.relay-before.relay, d)
	f[idlePostgres] = percent(after.postgres-before.postgres, d)
	return nil
}

func (w *world) statements() (n int) {
	text, _ := os.ReadFile(w.postgres.Options().LogFile)
	for _, mark := range []string{"LOG:  statement: ", "LOG:  execute ", "LOG:  received replication command: "} {
		n += bytes.Count(text, []byte(mark))
	}
	return n
}

func percent(d, of time.Duration) float64 { return 100 * d.Seconds() / of.Seconds() }
