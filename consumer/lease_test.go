package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/reader"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// patient makes a process keep its partitions however slow the machine is.
func patient(cfg *consumer.Config) { *cfg = consumer.WithPatience(*cfg, await.Patience) }

// greedy makes a process take partitions beyond its share soon that others do not.
func greedy(cfg *consumer.Config) { *cfg = consumer.WithUnwanted(*cfg, 2*time.Second) }

// renewals waits until each process has renewed its leases that often. Members that
// are rows only have short names.
func renewals(p *world.Partitioned, n int) {
	p.Helper()
	for range n {
		seen := world.Query[[]string](p.World, `SELECT coalesce(array_agg(concat(member, xmin)), '{}') FROM unilog.members WHERE length(member) > 20`)
		world.AwaitQuery(p.World, "the number of members that have yet to renew their leases", 0,
			`SELECT count(*) FROM unilog.members WHERE concat(member, xmin) = ANY ($1)`, seen)
	}
}

// TestLeasesAreSharedEvenly lets processes join and leave. Between that, no lease
// changes hands.
func TestLeasesAreSharedEvenly(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 8)
	p.FreezeClock()
	var processes []*world.Process
	for _, want := range []string{"8", "4 4", "2 3 3", "2 2 2 2", "1 1 2 2 2"} {
		processes = append(processes, p.Run(patient))
		p.AwaitShares(want)
	}
	leases := func() string {
		return world.Query[string](p.World, `SELECT string_agg(concat(partition, member, xmin), ' ' ORDER BY partition) FROM unilog.leases`)
	}
	before := leases()
	renewals(p, 4)
	if after := leases(); after != before {
		t.Errorf("the leases were\n%s, and are\n%s", before, after)
	}
	p.WriteAll()
	p.AwaitApplied("sum")

	for _, want := range []string{"2 2 2 2", "2 3 3", "4 4", "8"} {
		processes[0].Stop()
		if reads := processes[0].Reads(); reads != "[]" {
			t.Errorf("one that has ended says that it reads %s", reads)
		}
		processes = processes[1:]
		p.AwaitShares(want)
	}
	processes[0].AwaitReads(0, 1, 2, 3, 4, 5, 6, 7)
	p.WriteAll()
	p.AwaitApplied("sum")
	processes[0].Stop()
	p.AwaitShares("")
	p.WantCount("leases left", world.Query[int](p.World, `SELECT count(*) FROM unilog.leases`), 0)
	p.WantTotal("sum", "16")
}

// TestStandbyTakesOver ends the process that reads the only partition, in order or
// not, or stops its connections.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*world.Process){
		"leaves": (*world.Process).Stop,
		"dies":   (*world.Process).Die,
		"is cut off": func(m *world.Process) {
			m.Postgres.Blackhole(proxy.ToServer | proxy.ToClient)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := world.SetupPartitionsOnRedis(t, 1)
			p.FreezeClock()
			first := p.Run(patient)
			first.AwaitReads(0)
			second := p.Run(patient)
			second.AwaitReads()
			p.AwaitReady(second.Consumer.Ready)
			renewals(p, 2)
			if n := second.Changes.Load(); n != 1 {
				t.Errorf("the standby's leases changed %d times", n)
			}
			p.Write(0, "1")
			p.AwaitTotal("sum", "1")

			end(first)
			p.Write(0, "2")
			world.AwaitEqual(p.World, "the total when the other has taken over", "3", func() string {
				p.Advance(3 * time.Second)
				return p.Total("sum")
			})
			world.Heal(first.Postgres)
			first.Stop()
			second.Stop()
			p.AwaitShares("")
		})
	}
}

// TestNewMemberTakesNothingItDoesNotNeed has a member join, a row only, whose name
// comes before all others.
func TestNewMemberTakesNothingItDoesNotNeed(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 3)
	p.FreezeClock()
	m := p.Run(patient)
	m.AwaitReads(0, 1, 2)
	p.Exec(`INSERT INTO unilog.members (name, member) VALUES ('sum', '0')`)
	m.AwaitReads(0, 1) // the eldest of two
	renewals(p, 2)
	if n := m.Changes.Load(); n != 2 {
		t.Errorf("its leases have changed %d times, and are %s", n, m.Reads())
	}
	m.Stop()
}

// TestLeaseLostWithinABatch lets a process oversleep its lease while a handler of
// its own takes its only connection. Whoever commits first, the other one finds
// that its batch is applied.
func TestLeaseLostWithinABatch(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]time.Duration{
		"its transaction lives on":             time.Minute,
		"the server has ended its transaction": 500 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := world.SetupPartitionsOnRedis(t, 2)
			config := p.DB.Config()
			config.MaxConns = 1
			only, err := pgxpool.NewWithConfig(p.Ctx, config)
			p.Must(err)
			testenv.ClosePool(t, only)
			asleep, wake := make(chan struct{}), make(chan struct{})
			sleep := sync.OnceFunc(func() { close(asleep); <-wake })
			zombie := p.Process(func(cfg *consumer.Config) {
				cfg.DB, cfg.Archive, cfg.HandlerTimeout = only, p.DB, timeout
				add := cfg.Handler
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					err := add(context.WithoutCancel(ctx), tx, entries)
					sleep()
					return err
				}
			})
			p.Write(0, "1", "2")
			zombie.Start()
			world.Receive(p.World, "the handler to fall asleep", asleep)
			second := p.Run()
			second.AwaitReads(0, 1)
			p.Write(1, "4")
			world.AwaitQuery(p.World, "the total of partition 1", "4", `SELECT coalesce(sum(total), 0)::text FROM parts WHERE partition = 1`)
			if timeout < time.Minute {
				p.AwaitTotal("sum", "7")
			}
			close(wake)
			p.AwaitTotal("sum", "7")
			p.AwaitShares("1 1") // it has come back
			p.Write(0, "8")
			p.Write(1, "16")
			p.AwaitApplied("sum")
			zombie.Stop()
			second.Stop()
			p.WantTotal("sum", "31")
		})
	}
}

// TestLongHandlerKeepsItsLease applies a batch that takes longer than a lease.
func TestLongHandlerKeepsItsLease(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 1)
	p.FreezeClock()
	busy, goOn := make(chan struct{}), make(chan struct{})
	first := p.Run(patient, func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			close(busy)
			<-goOn
			return add(ctx, tx, entries)
		}
	})
	first.AwaitReads(0)
	second := p.Run(patient)
	p.Write(0, "1")
	world.Receive(p.World, "the handler to be called", busy)
	second.AwaitReads()
	for range 6 { // together longer than a lease lasts
		p.Advance(700 * time.Millisecond)
		renewals(p, 1)
	}
	if first.Changes.Load() != 1 || second.Changes.Load() != 1 {
		t.Errorf("the two read %s and %s: another process has taken its partition over", first.Reads(), second.Reads())
	}
	close(goOn)
	p.AwaitApplied("sum")
	first.Stop()
	second.Stop()
}

// TestLeasesGoByTheDatabasesClock has members that are rows only: one is seen all
// the time, the other two were last seen too long ago, or before the clock was set
// back.
func TestLeasesGoByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 4)
	p.FreezeClock()
	p.Exec(`INSERT INTO unilog.leases VALUES ('sum', 0, 'alive'), ('sum', 1, 'dead'), ('sum', 2, 'ahead'), ('sum', 3, 'nobody')`)
	p.Exec(`
		INSERT INTO unilog.members (name, member, seen_at) VALUES ('sum', 'alive', clock_timestamp()),
			('sum', 'dead', clock_timestamp() - interval '2.1 s'), ('sum', 'ahead', clock_timestamp() + interval '1 h'),
			('another', 'dead', '-infinity')`)
	m := p.Run(patient)
	m.AwaitReads(1, 2)
	p.WantCount("members", world.Query[int](p.World, `SELECT count(*) FROM unilog.members WHERE name = 'sum'`), 2)
	p.WantCount("members of others", world.Query[int](p.World, `SELECT count(*) FROM unilog.members WHERE name <> 'sum'`), 1)
	p.Advance(3 * time.Second) // nobody sees the other any more
	m.AwaitReads(0, 1, 2, 3)
	m.Stop()
}

// TestWorkersGoOnWithoutLeases makes the tables of the leases unusable.
func TestWorkersGoOnWithoutLeases(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 2)
	m := p.Run(patient)
	m.AwaitReads(0, 1)
	locked := p.Begin()
	_, err := locked.Exec(p.Ctx, `LOCK TABLE unilog.members, unilog.leases`)
	p.Must(err)
	waiting := map[int]bool{}
	p.Await("some renewals to be given up", func() string {
		pid := world.Query[int](p.World, `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE NOT granted AND relation = 'unilog.members'::regclass`)
		if pid > 0 {
			waiting[pid] = true
		}
		if len(waiting) > 2 {
			return ""
		}
		return fmt.Sprintf("%d were begun", len(waiting))
	})
	p.WriteAll()
	p.AwaitApplied("sum")
	p.AwaitReady(m.Consumer.Ready)
	p.Must(locked.Rollback(p.Ctx))
	renewals(p, 1)
	if n := m.Changes.Load(); n != 1 {
		t.Errorf("its leases have changed %d times", n)
	}
	m.Stop()
}

// TestLeasesCostLittle sees that to renew them is served by the indexes, writes one
// row, and leaves no work to vacuum.
func TestLeasesCostLittle(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 1)
	p.Exec(`INSERT INTO unilog.members (name, member) SELECT 'c' || n / 10, 'm' || n FROM generate_series(1, 50000) AS n`)
	p.Exec(`INSERT INTO unilog.leases SELECT 'c' || n / 10, n % 10, 'm' || n FROM generate_series(1, 50000) AS n`)
	p.Exec(`INSERT INTO unilog.checkpoints (name, partition) SELECT 'c' || n / 10, n % 10 FROM generate_series(1, 50000) AS n`)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			p.Exec(`ANALYZE`)
		}
		for sql, args := range map[string][]any{
			consumer.SQLRenew: {"c7", "m77"},
			consumer.SQLTake:  {"c7", "new", []int{3, 11}},
			reader.SQLBeat:    {"c7", 15},
		} {
			plan := p.Explain(sql, args...)
			if strings.Contains(plan, "Seq Scan on members") || strings.Contains(plan, "Seq Scan on leases") || strings.Contains(plan, "Seq Scan on checkpoints") {
				t.Errorf("analyzed %v: a table is read whole in the plan of\n%s\n%s", analyzed, sql, plan)
			}
		}
	}
	p.Exec(`TRUNCATE unilog.members, unilog.leases, unilog.checkpoints`)
	m := p.Run(patient)
	m.AwaitReads(0)
	lease := func() string { return world.Query[string](p.World, `SELECT xmin::text FROM unilog.leases`) }
	taken := lease()
	renewals(p, 5)
	if lease() != taken {
		t.Error("a renewal writes to the lease")
	}
	m.Stop()
	m.DB.Close() // a session that ends says what it did
	type updates struct{ All, HOT int }
	var n updates
	p.Await("the session to say what it did", func() string {
		rows, err := p.DB.Query(p.Ctx, `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relid = 'unilog.members'::regclass`)
		p.Must(err)
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[updates])
		p.Must(err)
		if n.All >= 5 {
			return ""
		}
		return fmt.Sprintf("%+v", n)
	})
	if n.HOT != n.All {
		t.Errorf("%d of %d updates are HOT", n.HOT, n.All)
	}
}
