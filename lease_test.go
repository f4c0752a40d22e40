package unilog_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

// renewals waits until each member has renewed its leases that often.
func (p *partitioned) renewals(n int) {
	p.Helper()
	for range n {
		seen := query[time.Time](p.world, `SELECT clock_timestamp()`)
		p.eventually(func() bool { return query[bool](p.world, `SELECT min(seen_at) > $1 FROM consumer_members`, seen) })
	}
}

// TestLeasesAreSharedEvenly lets processes join and leave. Between that, no lease
// changes hands.
func TestLeasesAreSharedEvenly(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 8)
	var processes []*process
	for _, want := range []string{"8", "4 4", "2 3 3", "2 2 2 2", "1 1 2 2 2"} {
		processes = append(processes, p.run())
		p.awaitShares(want)
	}
	leases := func() string {
		return query[string](p.world, `SELECT string_agg(concat(partition, member, xmin), ' ' ORDER BY partition) FROM consumer_leases`)
	}
	before := leases()
	p.renewals(4)
	if after := leases(); after != before {
		t.Errorf("the leases were\n%s, and are\n%s", before, after)
	}
	p.writeAll()
	p.eventually(func() bool { return p.appliedAll("sum") })

	for _, want := range []string{"2 2 2 2", "2 3 3", "4 4", "8"} {
		processes[0].stop()
		if !processes[0].reads() {
			t.Error("one that has ended says that it reads something")
		}
		processes = processes[1:]
		p.awaitShares(want)
	}
	p.eventually(func() bool { return processes[0].reads(0, 1, 2, 3, 4, 5, 6, 7) })
	p.writeAll()
	p.eventually(func() bool { return p.appliedAll("sum") })
	processes[0].stop()
	p.awaitShares("")
	p.wantCount("leases left", query[int](p.world, `SELECT count(*) FROM consumer_leases`), 0)
	p.wantTotal("sum", "16")
}

// TestStandbyTakesOver ends the process that reads the only partition, in order or
// not, or stops its connections.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*process){
		"leaves": (*process).stop,
		"dies":   (*process).die,
		"is cut off": func(m *process) {
			m.postgres.Blackhole(proxy.ToServer | proxy.ToClient)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setupPartitions(t, 1)
			first := p.run()
			p.eventually(func() bool { return first.reads(0) })
			second := p.run()
			p.eventually(func() bool { return second.reads() })
			p.wantReady(second.consumer.Ready, "")
			p.renewals(2)
			if n := second.changes.Load(); n != 1 {
				t.Errorf("the standby's leases changed %d times", n)
			}
			p.write(0, "1")
			p.eventually(func() bool { return p.total("sum") == "1" })

			began := time.Now()
			end(first)
			p.write(0, "2")
			p.eventually(func() bool { return p.total("sum") == "3" })
			t.Logf("one that %s: applied by the other after %v", name, time.Since(began))
			heal(first.postgres)
			first.cancel()
			p.must(first.running.Wait())
			second.stop()
			p.awaitShares("")
		})
	}
}

// TestNewMemberTakesNothingItDoesNotNeed has a member join, a row only, whose name
// comes before all others.
func TestNewMemberTakesNothingItDoesNotNeed(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 3)
	m := p.run()
	p.eventually(func() bool { return m.reads(0, 1, 2) })
	join := func() {
		p.exec(`INSERT INTO consumer_members (name, member) VALUES ('sum', '0')
			ON CONFLICT (name, member) DO UPDATE SET seen_at = clock_timestamp()`)
	}
	p.eventually(func() bool { join(); return m.changes.Load() > 1 })
	if !m.reads(0, 1) {
		t.Errorf("the eldest of two reads %v of three partitions", *m.leases.Load())
	}
	m.stop()
}

// TestLeaseLostWithinABatch lets a process oversleep its lease while a handler of
// its own takes its only connection. Whoever commits first, the other one finds
// that its batch is applied.
func TestLeaseLostWithinABatch(t *testing.T) {
	t.Parallel()
	for name, timeout := range map[string]time.Duration{
		"its transaction lives on":             time.Minute,
		"the server has ended its transaction": 100 * time.Millisecond,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setupPartitions(t, 2)
			config := p.db.Config()
			config.MaxConns = 1
			only, err := pgxpool.NewWithConfig(p.ctx, config)
			p.must(err)
			t.Cleanup(only.Close)
			asleep, wake := make(chan struct{}), make(chan struct{})
			sleep := sync.OnceFunc(func() { close(asleep); <-wake })
			zombie := p.process(func(cfg *unilog.ConsumerConfig) {
				cfg.DB, cfg.Archive, cfg.HandlerTimeout = only, p.db, timeout
				add := cfg.Handler
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					err := add(context.WithoutCancel(ctx), tx, entries)
					sleep()
					return err
				}
			})
			p.write(0, "1", "2")
			zombie.start()
			<-asleep
			second := p.run()
			p.eventually(func() bool { return second.reads(0, 1) })
			p.write(1, "4")
			p.eventually(func() bool {
				return query[string](p.world, `SELECT coalesce(sum(total), 0)::text FROM parts WHERE partition = 1`) == "4"
			})
			if timeout < time.Minute {
				p.eventually(func() bool { return p.total("sum") == "7" })
			}
			close(wake)
			p.eventually(func() bool { return p.total("sum") == "7" })
			p.awaitShares("1 1") // it has come back
			p.write(0, "8")
			p.write(1, "16")
			p.eventually(func() bool { return p.appliedAll("sum") })
			zombie.stop()
			second.stop()
			p.wantTotal("sum", "31")
		})
	}
}

// TestLongHandlerKeepsItsLease applies a batch that takes longer than a lease.
func TestLongHandlerKeepsItsLease(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 1)
	busy, goOn := make(chan struct{}), make(chan struct{})
	first := p.run(func(cfg *unilog.ConsumerConfig) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			close(busy)
			<-goOn
			return add(ctx, tx, entries)
		}
	})
	p.eventually(func() bool { return first.reads(0) })
	second := p.run()
	p.write(0, "1")
	<-busy
	p.renewals(6) // which takes longer than a lease lasts
	if !second.reads() {
		t.Error("another process has taken its partition over")
	}
	close(goOn)
	p.eventually(func() bool { return p.appliedAll("sum") })
	first.stop()
	second.stop()
}

// TestLeasesGoByTheDatabasesClock has members that are rows only: one is seen all
// the time, the other two were last seen too long ago, or before the clock was set
// back.
func TestLeasesGoByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 4)
	p.exec(`INSERT INTO consumer_leases VALUES ('sum', 0, 'alive'), ('sum', 1, 'dead'), ('sum', 2, 'ahead'), ('sum', 3, 'nobody')`)
	p.exec(`
		INSERT INTO consumer_members (name, member, seen_at) VALUES ('sum', 'alive', clock_timestamp()),
			('sum', 'dead', clock_timestamp() - interval '2.1 s'), ('sum', 'ahead', clock_timestamp() + interval '1 h'),
			('another', 'dead', '-infinity')`)
	m := p.run()
	seen := func() { p.exec(`UPDATE consumer_members SET seen_at = clock_timestamp() WHERE member = 'alive'`) }
	p.eventually(func() bool { seen(); return m.reads(1, 2) })
	p.wantCount("members", query[int](p.world, `SELECT count(*) FROM consumer_members WHERE name = 'sum'`), 2)
	p.wantCount("members of others", query[int](p.world, `SELECT count(*) FROM consumer_members WHERE name <> 'sum'`), 1)
	p.eventually(func() bool { return m.reads(0, 1, 2, 3) }) // nobody sees the other any more
	m.stop()
}

// TestWorkersGoOnWithoutLeases makes the tables of the leases unusable.
func TestWorkersGoOnWithoutLeases(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 2)
	m := p.run()
	p.eventually(func() bool { return m.reads(0, 1) })
	locked := p.begin()
	_, err := locked.Exec(p.ctx, `LOCK TABLE consumer_members, consumer_leases`)
	p.must(err)
	waiting := map[int]bool{}
	p.eventually(func() bool {
		pid := query[int](p.world, `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE NOT granted AND relation = 'consumer_members'::regclass`)
		if pid > 0 {
			waiting[pid] = true
		}
		return len(waiting) > 2 // some were given up
	})
	p.writeAll()
	p.eventually(func() bool { return p.appliedAll("sum") })
	p.wantReady(m.consumer.Ready, "")
	p.must(locked.Rollback(p.ctx))
	p.renewals(1)
	if n := m.changes.Load(); n != 1 {
		t.Errorf("its leases have changed %d times", n)
	}
	m.stop()
}

// TestRejectedRecordHaltsTheProcess sees that the others take over, and halt, too.
func TestRejectedRecordHaltsTheProcess(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 4)
	poison := func(cfg *unilog.ConsumerConfig) { cfg.Handler = rejecting(cfg.Handler, func() {}, "2") }
	p.write(3, "1", "2")
	for range 2 {
		m := p.run(poison)
		var rejected *unilog.RejectedError
		if err := m.running.Wait(); !errors.As(err, &rejected) || rejected.Partition != 3 || rejected.Offset != 2 {
			t.Errorf("Run returned %v, want it to halt at offset 2 of partition 3", err)
		}
		p.wantReady(m.consumer.Ready, "halts at offset 2 of partition 3")
		p.awaitShares("")
	}
	p.run().eventuallyAppliesAll()
}

func (m *process) eventuallyAppliesAll() {
	m.p.Helper()
	m.p.eventually(func() bool { return m.p.appliedAll("sum") })
	m.stop()
}

// TestLeasesCostLittle sees that to renew them is served by the indexes, writes one
// row, and leaves no work to vacuum.
func TestLeasesCostLittle(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 1)
	p.exec(`INSERT INTO consumer_members (name, member) SELECT 'c' || n / 10, 'm' || n FROM generate_series(1, 50000) AS n`)
	p.exec(`INSERT INTO consumer_leases SELECT 'c' || n / 10, n % 10, 'm' || n FROM generate_series(1, 50000) AS n`)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			p.exec(`ANALYZE`)
		}
		for sql, args := range map[string][]any{
			unilog.SQLRenew: {"c7", "m77"},
			unilog.SQLTake:  {"c7", "new", []int{3, 11}},
		} {
			plan := p.explain(sql, args...)
			if strings.Contains(plan, "Seq Scan on consumer_") {
				t.Errorf("analyzed %v: a table is read whole in the plan of\n%s\n%s", analyzed, sql, plan)
			}
		}
	}
	p.exec(`TRUNCATE consumer_members, consumer_leases`)
	m := p.run()
	p.eventually(func() bool { return m.reads(0) })
	lease := func() string { return query[string](p.world, `SELECT xmin::text FROM consumer_leases`) }
	taken := lease()
	p.renewals(5)
	if lease() != taken {
		t.Error("a renewal writes to the lease")
	}
	m.stop()
	m.db.Close() // a session that ends says what it did
	type updates struct{ All, HOT int }
	var n updates
	p.eventually(func() bool {
		rows, err := p.db.Query(p.ctx, `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'consumer_members'`)
		p.must(err)
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[updates])
		p.must(err)
		return n.All >= 5
	})
	if n.HOT != n.All {
		t.Errorf("%d of %d updates are HOT", n.HOT, n.All)
	}
}
