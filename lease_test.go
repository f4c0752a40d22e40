package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

// renewals waits until each process has renewed its leases that often. Members that
// are rows only have short names.
func renewals(p *partitioned, n int) {
	p.Helper()
	for range n {
		seen := query[[]string](p.world, `SELECT coalesce(array_agg(concat(member, xmin)), '{}') FROM consumer_members WHERE length(member) > 20`)
		awaitQuery(p.world, "the number of members that have yet to renew their leases", 0,
			`SELECT count(*) FROM consumer_members WHERE concat(member, xmin) = ANY ($1)`, seen)
	}
}

// TestLeasesAreSharedEvenly lets processes join and leave. Between that, no lease
// changes hands.
func TestLeasesAreSharedEvenly(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 8)
	p.freezeClock()
	var processes []*process
	for _, want := range []string{"8", "4 4", "2 3 3", "2 2 2 2", "1 1 2 2 2"} {
		processes = append(processes, p.run())
		p.awaitShares(want)
	}
	leases := func() string {
		return query[string](p.world, `SELECT string_agg(concat(partition, member, xmin), ' ' ORDER BY partition) FROM consumer_leases`)
	}
	before := leases()
	renewals(p, 4)
	if after := leases(); after != before {
		t.Errorf("the leases were\n%s, and are\n%s", before, after)
	}
	p.writeAll()
	p.awaitApplied("sum")

	for _, want := range []string{"2 2 2 2", "2 3 3", "4 4", "8"} {
		processes[0].stop()
		if reads := processes[0].reads(); reads != "[]" {
			t.Errorf("one that has ended says that it reads %s", reads)
		}
		processes = processes[1:]
		p.awaitShares(want)
	}
	processes[0].awaitReads(0, 1, 2, 3, 4, 5, 6, 7)
	p.writeAll()
	p.awaitApplied("sum")
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
			p.freezeClock()
			first := p.run()
			first.awaitReads(0)
			second := p.run()
			second.awaitReads()
			wantReady(p.world, second.consumer.Ready, "")
			renewals(p, 2)
			if n := second.changes.Load(); n != 1 {
				t.Errorf("the standby's leases changed %d times", n)
			}
			p.write(0, "1")
			p.awaitTotal("sum", "1")

			end(first)
			p.write(0, "2")
			awaitEqual(p.world, "the total when the other has taken over", "3", func() string {
				p.advance(3 * time.Second)
				return p.total("sum")
			})
			heal(first.postgres)
			first.stop()
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
	p.freezeClock()
	m := p.run()
	m.awaitReads(0, 1, 2)
	p.exec(`INSERT INTO consumer_members (name, member) VALUES ('sum', '0')`)
	m.awaitReads(0, 1) // the eldest of two
	renewals(p, 2)
	if n := m.changes.Load(); n != 2 {
		t.Errorf("its leases have changed %d times, and are %s", n, m.reads())
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
		"the server has ended its transaction": 500 * time.Millisecond,
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
			receive(p.world, "the handler to fall asleep", asleep)
			second := p.run()
			second.awaitReads(0, 1)
			p.write(1, "4")
			awaitQuery(p.world, "the total of partition 1", "4", `SELECT coalesce(sum(total), 0)::text FROM parts WHERE partition = 1`)
			if timeout < time.Minute {
				p.awaitTotal("sum", "7")
			}
			close(wake)
			p.awaitTotal("sum", "7")
			p.awaitShares("1 1") // it has come back
			p.write(0, "8")
			p.write(1, "16")
			p.awaitApplied("sum")
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
	p.freezeClock()
	busy, goOn := make(chan struct{}), make(chan struct{})
	first := p.run(func(cfg *unilog.ConsumerConfig) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			close(busy)
			<-goOn
			return add(ctx, tx, entries)
		}
	})
	first.awaitReads(0)
	second := p.run()
	p.write(0, "1")
	receive(p.world, "the handler to be called", busy)
	second.awaitReads()
	for range 6 { // together longer than a lease lasts
		p.advance(700 * time.Millisecond)
		renewals(p, 1)
	}
	if first.changes.Load() != 1 || second.changes.Load() != 1 {
		t.Errorf("the two read %s and %s: another process has taken its partition over", first.reads(), second.reads())
	}
	close(goOn)
	p.awaitApplied("sum")
	first.stop()
	second.stop()
}

// TestLeasesGoByTheDatabasesClock has members that are rows only: one is seen all
// the time, the other two were last seen too long ago, or before the clock was set
// back.
func TestLeasesGoByTheDatabasesClock(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 4)
	p.freezeClock()
	p.exec(`INSERT INTO consumer_leases VALUES ('sum', 0, 'alive'), ('sum', 1, 'dead'), ('sum', 2, 'ahead'), ('sum', 3, 'nobody')`)
	p.exec(`
		INSERT INTO consumer_members (name, member, seen_at) VALUES ('sum', 'alive', clock_timestamp()),
			('sum', 'dead', clock_timestamp() - interval '2.1 s'), ('sum', 'ahead', clock_timestamp() + interval '1 h'),
			('another', 'dead', '-infinity')`)
	m := p.run()
	m.awaitReads(1, 2)
	p.wantCount("members", query[int](p.world, `SELECT count(*) FROM consumer_members WHERE name = 'sum'`), 2)
	p.wantCount("members of others", query[int](p.world, `SELECT count(*) FROM consumer_members WHERE name <> 'sum'`), 1)
	p.advance(3 * time.Second) // nobody sees the other any more
	m.awaitReads(0, 1, 2, 3)
	m.stop()
}

// TestWorkersGoOnWithoutLeases makes the tables of the leases unusable.
func TestWorkersGoOnWithoutLeases(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 2)
	m := p.run()
	m.awaitReads(0, 1)
	locked := p.begin()
	_, err := locked.Exec(p.ctx, `LOCK TABLE consumer_members, consumer_leases`)
	p.must(err)
	waiting := map[int]bool{}
	p.await("some renewals to be given up", func() string {
		pid := query[int](p.world, `SELECT coalesce(max(pid), 0) FROM pg_locks WHERE NOT granted AND relation = 'consumer_members'::regclass`)
		if pid > 0 {
			waiting[pid] = true
		}
		if len(waiting) > 2 {
			return ""
		}
		return fmt.Sprintf("%d were begun", len(waiting))
	})
	p.writeAll()
	p.awaitApplied("sum")
	wantReady(p.world, m.consumer.Ready, "")
	p.must(locked.Rollback(p.ctx))
	renewals(p, 1)
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
		running := make(chan error, 1)
		go func() { running <- m.running.Wait() }()
		if err := receive(p.world, "the process to halt", running); !errors.As(err, &rejected) || rejected.Partition != 3 || rejected.Offset != 2 {
			t.Errorf("Run returned %v, want it to halt at offset 2 of partition 3", err)
		}
		wantReady(p.world, m.consumer.Ready, "halts at offset 2 of partition 3")
		p.awaitShares("")
	}
	m := p.run()
	p.awaitApplied("sum")
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
	m.awaitReads(0)
	lease := func() string { return query[string](p.world, `SELECT xmin::text FROM consumer_leases`) }
	taken := lease()
	renewals(p, 5)
	if lease() != taken {
		t.Error("a renewal writes to the lease")
	}
	m.stop()
	m.db.Close() // a session that ends says what it did
	type updates struct{ All, HOT int }
	var n updates
	p.await("the session to say what it did", func() string {
		rows, err := p.db.Query(p.ctx, `SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'consumer_members'`)
		p.must(err)
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[updates])
		p.must(err)
		if n.All >= 5 {
			return ""
		}
		return fmt.Sprintf("%+v", n)
	})
	if n.HOT != n.All {
		t.Errorf("%d of %d updates are HOT", n.HOT, n.All)
	}
}
