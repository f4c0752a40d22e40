package consumer_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/world"
)

func TestRunOnceReadsAllPartitions(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 3)
	p.Exec(`INSERT INTO consumer_members (name, member) VALUES ('sum', 'another')`)
	p.Exec(`INSERT INTO consumer_leases VALUES ('sum', 1, 'another')`)
	handler := func(cfg *consumer.Config) { cfg.Handler = p.Add(cfg.Name) }
	p.Write(0, "1", "2")
	p.Write(1, "4")
	p.Write(2, "8", "16", "32")
	c := p.Consumer("sum", handler)
	if n, err := c.RunOnce(p.Ctx); n != 6 || err != nil {
		t.Errorf("it applied %d, %v", n, err)
	}
	p.WantTotal("sum", "63")
	alone := p.Consumer("alone", handler, func(cfg *consumer.Config) { cfg.Archive = nil })
	p.WantCount("applied without the archive", p.Consume(alone), 6)

	p.Exec(`UPDATE log_partitions SET active = false WHERE partition = 2`) // it has a history
	p.WantCount("applied by one that is new", p.Consume(p.Consumer("late", handler)), 6)
	p.Grow(5)
	p.Write(4, "64")
	for _, c := range []*consumer.Consumer{c, alone, p.Consumer("late", handler)} {
		p.WantCount("applied of a new partition", p.Consume(c), 1)
	}
	p.WantTotal("late", "127")
}

// TestRejectionInOnePartition sees that RunOnce goes on with the others.
func TestRejectionInOnePartition(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 3)
	p.WriteAll()
	p.Write(1, "2")
	c := p.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = world.Rejecting(p.Add("sum"), func() {}, "2") })
	p.Write(2, "4")
	n, err := c.RunOnce(p.Ctx)
	var rejected *unilog.RejectedError
	if n != 4 || !errors.As(err, &rejected) || rejected.Partition != 1 || rejected.Offset != 2 {
		t.Errorf("it applied %d and returned %v", n, err)
	}
	wantReady(p.World, c.Ready, "halts at offset 2 of partition 1")
	p.WantCount("applied when that is mended", p.Consume(p.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = p.Add("sum") })), 1)
}

// TestPartitionIsAddedWhileConsumersRun tells them by the archive, or by the log.
func TestPartitionIsAddedWhileConsumersRun(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*consumer.Config){
		"with the archive":    func(*consumer.Config) {},
		"without the archive": func(cfg *consumer.Config) { cfg.Archive = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := world.SetupPartitionsOnRedis(t, 1)
			first := p.Run(change)
			first.AwaitReads(0)
			second := p.Run(change)
			second.AwaitReads()
			p.Grow(4)
			p.WriteAll()
			p.AwaitApplied("sum")
			p.AwaitShares("2 2")
			first.Stop()
			second.Stop()
			p.WantTotal("sum", "4")
		})
	}
}

// TestProcessesUnderLoad ends, cuts off and restarts the processes that share eight
// partitions, at random, while their handlers crash now and then and writers write.
func TestProcessesUnderLoad(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 8)
	run := func() *world.Process {
		return p.Run(func(cfg *consumer.Config) {
			cfg.BatchRecords = 5
			cfg.Hooks.BeforeCommit = unilog.SimulateFailures(0.1, rand.Uint64())
		})
	}
	var processes [4]*world.Process
	for i := range processes {
		processes[i] = run()
	}
	writing, enough := context.WithCancel(p.Ctx)
	var writers errgroup.Group
	for first := range 2 {
		writers.Go(func() error {
			for n := 0; writing.Err() == nil && n < 900; n++ {
				p.Write(first*4+n%4, "1", "0.01")
			}
			return nil
		})
	}
	for n := range 9 {
		m := &processes[rand.IntN(len(processes))]
		switch n % 3 {
		case 0:
			(*m).Stop()
			*m = run()
		case 1:
			(*m).Die()
			*m = run()
		case 2: // it goes on believing that it has its leases
			(*m).Postgres.Blackhole(proxy.ToServer | proxy.ToClient)
			p.AwaitShares("2 3 3")
			world.Heal((*m).Postgres)
		}
		if n%4 == 3 {
			p.AwaitShares("2 2 2 2")
		}
	}
	enough()
	p.Ended("the writers", &writers)
	p.AwaitApplied("sum")
	for _, m := range processes {
		m.Stop()
	}
	p.AwaitShares("")
}

// TestAuditOfPartitions starts and repairs consumers, one of which has not got to
// each partition.
func TestAuditOfPartitions(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 3)
	balance := func(name string) audit.Balance {
		t.Helper()
		balances, err := world.PartitionedAudit.Check(p.Ctx, p.DB)
		p.Must(err)
		for _, b := range balances {
			if b.Consumer == name {
				return b
			}
		}
		t.Fatal("no balance of " + name)
		return audit.Balance{}
	}
	p.Write(0, "1", "2")
	p.Write(2, "4")
	parks := func(cfg *consumer.Config) {
		cfg.Handler, cfg.ParkRejected = world.Rejecting(p.Add("sum"), func() {}, "2", "4"), true
	}
	p.Consume(p.Consumer("sum", parks))
	p.Exec(`DELETE FROM checkpoints WHERE partition = 1`) // as if it had never run since that was added
	p.Write(1, "8", "16")
	p.Write(0, "32")
	want := audit.Balance{
		Consumer: "sum", Truth: "63", Total: "1", Ahead: "56", Staged: "0", Parked: "6", Difference: "0", Agrees: true, Lag: 3,
	}
	if got := balance("sum"); got != want {
		t.Errorf("the balance is\n%+v, want\n%+v", got, want)
	}

	p.Exec(`UPDATE parts SET total = 100`)
	if was, err := world.PartitionedAudit.Reconcile(p.Ctx, p.DB, "sum"); err != nil || was.Difference != "-99" {
		t.Errorf("it was %+v, %v", was, err)
	}
	if created, err := world.PartitionedAudit.Bootstrap(p.Ctx, p.DB, "sum"); created || err != nil {
		t.Errorf("one that has checkpoints was bootstrapped: %v, %v", created, err)
	}
	if got := balance("sum"); got != want {
		t.Errorf("repaired, the balance is\n%+v, want\n%+v", got, want)
	}

	if created, err := world.PartitionedAudit.Bootstrap(p.Ctx, p.DB, "late"); !created || err != nil {
		t.Errorf("bootstrap: %v, %v", created, err)
	}
	if b := balance("late"); !b.Agrees || b.Total != "63" || b.Lag != 0 {
		t.Errorf("bootstrapped, the balance is %+v", b)
	}
	p.Grow(4) // what is added later has no history to skip
	p.Write(3, "64")
	if b := balance("late"); !b.Agrees || b.Ahead != "64" || b.Lag != 1 {
		t.Errorf("with a new partition, the balance is %+v", b)
	}
	late := p.Consumer("late", func(cfg *consumer.Config) { cfg.Handler = p.Add("late") })
	p.WantCount("applied by the new consumer", p.Consume(late), 1)
	p.Consume(p.Consumer("sum", parks))

	// Two records at offset 1 are parked now.
	p.Exec(`DELETE FROM applied`) // late begins in the middle, and this one out of its order
	letters, err := consumer.DeadLetters(p.Ctx, p.DB, "sum")
	p.Must(err)
	if len(letters) != 2 || letters[0].Partition != 0 || letters[1].Partition != 2 {
		t.Fatalf("the dead letters are %+v", letters)
	}
	if err := consumer.RetryDeadLetter(p.Ctx, p.DB, "sum", 1, 2, p.Add("sum")); !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("of another partition it retried %v", err)
	}
	p.Must(consumer.RetryDeadLetter(p.Ctx, p.DB, "sum", 0, 2, p.Add("sum")))
	p.Must(consumer.DiscardDeadLetter(p.Ctx, p.DB, "sum", 2, 1))
	p.Exec(`DELETE FROM applied`)
	if b := balance("sum"); !b.Agrees || b.Parked != "4" {
		t.Errorf("with one retried and one discarded, the balance is %+v", b)
	}
}
