package unilog_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/proxy"
)

func TestRunOnceReadsAllPartitions(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 3)
	p.exec(`INSERT INTO consumer_members (name, member) VALUES ('sum', 'another')`)
	p.exec(`INSERT INTO consumer_leases VALUES ('sum', 1, 'another')`)
	handler := func(cfg *unilog.ConsumerConfig) { cfg.Handler = p.add(cfg.Name) }
	p.write(0, "1", "2")
	p.write(1, "4")
	p.write(2, "8", "16", "32")
	c := p.consumer("sum", handler)
	if n, err := c.RunOnce(p.ctx); n != 6 || err != nil {
		t.Errorf("it applied %d, %v", n, err)
	}
	p.wantTotal("sum", "63")
	alone := p.consumer("alone", handler, func(cfg *unilog.ConsumerConfig) { cfg.Archive = nil })
	p.wantCount("applied without the archive", p.consume(alone), 6)

	p.exec(`UPDATE log_partitions SET active = false WHERE partition = 2`) // it has a history
	p.wantCount("applied by one that is new", p.consume(p.consumer("late", handler)), 6)
	p.grow(5)
	p.write(4, "64")
	for _, c := range []*unilog.Consumer{c, alone, p.consumer("late", handler)} {
		p.wantCount("applied of a new partition", p.consume(c), 1)
	}
	p.wantTotal("late", "127")
}

// TestRejectionInOnePartition sees that RunOnce goes on with the others.
func TestRejectionInOnePartition(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 3)
	p.writeAll()
	p.write(1, "2")
	c := p.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.Handler = rejecting(p.add("sum"), func() {}, "2") })
	p.write(2, "4")
	n, err := c.RunOnce(p.ctx)
	var rejected *unilog.RejectedError
	if n != 4 || !errors.As(err, &rejected) || rejected.Partition != 1 || rejected.Offset != 2 {
		t.Errorf("it applied %d and returned %v", n, err)
	}
	wantReady(p.world, c.Ready, "halts at offset 2 of partition 1")
	p.wantCount("applied when that is mended", p.consume(p.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.Handler = p.add("sum") })), 1)
}

// TestPartitionIsAddedWhileConsumersRun tells them by the archive, or by the log.
func TestPartitionIsAddedWhileConsumersRun(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*unilog.ConsumerConfig){
		"with the archive":    func(*unilog.ConsumerConfig) {},
		"without the archive": func(cfg *unilog.ConsumerConfig) { cfg.Archive = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setupPartitions(t, 1)
			first := p.run(change)
			first.awaitReads(0)
			second := p.run(change)
			second.awaitReads()
			p.grow(4)
			p.writeAll()
			p.awaitApplied("sum")
			p.awaitShares("2 2")
			first.stop()
			second.stop()
			p.wantTotal("sum", "4")
		})
	}
}

// TestProcessesUnderLoad ends, cuts off and restarts the processes that share eight
// partitions, at random, while their handlers crash now and then and writers write.
func TestProcessesUnderLoad(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 8)
	run := func() *process {
		return p.run(func(cfg *unilog.ConsumerConfig) {
			cfg.BatchRecords = 5
			cfg.Hooks.BeforeCommit = unilog.SimulateFailures(0.1, rand.Uint64())
		})
	}
	var processes [4]*process
	for i := range processes {
		processes[i] = run()
	}
	writing, enough := context.WithCancel(p.ctx)
	var writers errgroup.Group
	for first := range 2 {
		writers.Go(func() error {
			for n := 0; writing.Err() == nil && n < 900; n++ {
				p.write(first*4+n%4, "1", "0.01")
			}
			return nil
		})
	}
	for n := range 9 {
		m := &processes[rand.IntN(len(processes))]
		switch n % 3 {
		case 0:
			(*m).stop()
			*m = run()
		case 1:
			(*m).die()
			*m = run()
		case 2: // it goes on believing that it has its leases
			(*m).postgres.Blackhole(proxy.ToServer | proxy.ToClient)
			p.awaitShares("2 3 3")
			heal((*m).postgres)
		}
		if n%4 == 3 {
			p.awaitShares("2 2 2 2")
		}
	}
	enough()
	p.ended("the writers", &writers)
	p.awaitApplied("sum")
	for _, m := range processes {
		m.stop()
	}
	p.awaitShares("")
}

// TestAuditOfPartitions starts and repairs consumers, one of which has not got to
// each partition.
func TestAuditOfPartitions(t *testing.T) {
	t.Parallel()
	p := setupPartitions(t, 3)
	balance := func(name string) unilog.Balance {
		t.Helper()
		balances, err := partitionedAudit.Check(p.ctx, p.db)
		p.must(err)
		for _, b := range balances {
			if b.Consumer == name {
				return b
			}
		}
		t.Fatal("no balance of " + name)
		return unilog.Balance{}
	}
	p.write(0, "1", "2")
	p.write(2, "4")
	parks := func(cfg *unilog.ConsumerConfig) {
		cfg.Handler, cfg.ParkRejected = rejecting(p.add("sum"), func() {}, "2", "4"), true
	}
	p.consume(p.consumer("sum", parks))
	p.exec(`DELETE FROM checkpoints WHERE partition = 1`) // as if it had never run since that was added
	p.write(1, "8", "16")
	p.write(0, "32")
	want := unilog.Balance{
		Consumer: "sum", Truth: "63", Total: "1", Ahead: "56", Staged: "0", Parked: "6", Difference: "0", Agrees: true, Lag: 3,
	}
	if got := balance("sum"); got != want {
		t.Errorf("the balance is\n%+v, want\n%+v", got, want)
	}

	p.exec(`UPDATE parts SET total = 100`)
	if was, err := partitionedAudit.Reconcile(p.ctx, p.db, "sum"); err != nil || was.Difference != "-99" {
		t.Errorf("it was %+v, %v", was, err)
	}
	if created, err := partitionedAudit.Bootstrap(p.ctx, p.db, "sum"); created || err != nil {
		t.Errorf("one that has checkpoints was bootstrapped: %v, %v", created, err)
	}
	if got := balance("sum"); got != want {
		t.Errorf("repaired, the balance is\n%+v, want\n%+v", got, want)
	}

	if created, err := partitionedAudit.Bootstrap(p.ctx, p.db, "late"); !created || err != nil {
		t.Errorf("bootstrap: %v, %v", created, err)
	}
	if b := balance("late"); !b.Agrees || b.Total != "63" || b.Lag != 0 {
		t.Errorf("bootstrapped, the balance is %+v", b)
	}
	p.grow(4) // what is added later has no history to skip
	p.write(3, "64")
	if b := balance("late"); !b.Agrees || b.Ahead != "64" || b.Lag != 1 {
		t.Errorf("with a new partition, the balance is %+v", b)
	}
	late := p.consumer("late", func(cfg *unilog.ConsumerConfig) { cfg.Handler = p.add("late") })
	p.wantCount("applied by the new consumer", p.consume(late), 1)
	p.consume(p.consumer("sum", parks))

	// Two records at offset 1 are parked now.
	p.exec(`DELETE FROM applied`) // late begins in the middle, and this one out of its order
	letters, err := unilog.DeadLetters(p.ctx, p.db, "sum")
	p.must(err)
	if len(letters) != 2 || letters[0].Partition != 0 || letters[1].Partition != 2 {
		t.Fatalf("the dead letters are %+v", letters)
	}
	if err := unilog.RetryDeadLetter(p.ctx, p.db, "sum", 1, 2, p.add("sum")); !errors.Is(err, unilog.ErrNoDeadLetter) {
		t.Errorf("of another partition it retried %v", err)
	}
	p.must(unilog.RetryDeadLetter(p.ctx, p.db, "sum", 0, 2, p.add("sum")))
	p.must(unilog.DiscardDeadLetter(p.ctx, p.db, "sum", 2, 1))
	p.exec(`DELETE FROM applied`)
	if b := balance("sum"); !b.Agrees || b.Parked != "4" {
		t.Errorf("with one retried and one discarded, the balance is %+v", b)
	}
}
