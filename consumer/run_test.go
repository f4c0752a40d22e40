package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

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
			p.FreezeClock()
			first := p.Run(patient, change)
			first.AwaitReads(0)
			second := p.Run(patient, change)
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

// TestRejectedRecordHaltsTheProcess sees that the others take over, and halt, too.
func TestRejectedRecordHaltsTheProcess(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 4)
	poison := func(cfg *consumer.Config) { cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "2") }
	p.Write(3, "1", "2")
	for range 2 {
		m := p.Run(poison)
		var rejected *unilog.RejectedError
		running := make(chan error, 1)
		go func() { running <- m.Running.Wait() }()
		if err := world.Receive(p.World, "the process to halt", running); !errors.As(err, &rejected) || rejected.Partition != 3 || rejected.Offset != 2 {
			t.Errorf("Run returned %v, want it to halt at offset 2 of partition 3", err)
		}
		p.WantReady(m.Consumer.Ready, "halts at offset 2 of partition 3")
		p.AwaitShares("")
	}
	m := p.Run()
	p.AwaitApplied("sum")
	m.Stop()
}

func TestConsumerStopsWithItsContext(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	ctx, stop := context.WithCancel(w.Ctx)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			stop() // in the middle of a batch, which is finished all the same
			return add(ctx, tx, entries)
		}
	})
	w.Must(w.EndOf(ctx, c.Run))
	w.WantTotal("sum", "3")
}

// TestInstancesUnderLoad runs instances of one consumer, which crash before they
// commit and lose their connections, while writers write.
func TestInstancesUnderLoad(t *testing.T) {
	t.Parallel()
	for _, instances := range []int{2, 5} {
		t.Run(fmt.Sprint(instances), func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			ctx, stop := context.WithCancel(w.Ctx)
			defer stop()
			var processes, writers errgroup.Group
			var crashes, cuts atomic.Int32
			s := w.Streamer(func(cfg *streamer.Config) {
				cfg.BatchRecords, cfg.Hooks.AfterAppend = 20, unilog.SimulateFailures(0.2, 0)
			})
			processes.Go(func() error { return s.Run(ctx) })
			for i := range instances {
				fail := unilog.SimulateFailures(0.2, uint64(i))
				calls := 0
				c := w.Consumer("sum", func(cfg *consumer.Config) {
					add := cfg.Handler
					cfg.BatchRecords = 3 + i
					cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
						if calls++; calls%5 == 0 {
							cuts.Add(1)
							_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
							return err
						}
						return add(ctx, tx, entries)
					}
					cfg.Hooks.BeforeCommit = func(ctx context.Context, entries []unilog.Entry) error {
						err := fail(ctx, entries)
						if err != nil {
							crashes.Add(1)
						}
						return err
					}
				})
				processes.Go(func() error { return c.Run(ctx) })
			}
			for range 3 {
				writers.Go(func() error {
					for range 50 {
						w.Commit("1", "2")
					}
					return nil
				})
			}
			w.Must(writers.Wait())
			await.Equal(t, "the checkpoint", 300, func() int { return world.Query[int](w, `SELECT coalesce(max("offset"), 0) FROM unilog.checkpoints`) })
			stop()
			w.Must(processes.Wait())
			w.WantTotal("sum", "450")
			w.WantCount("applied", world.Query[int](w, `SELECT count(*) FROM applied`), 300)
			w.WantCount("applied out of order", world.Query[int](w, `
				SELECT count(*) FROM (SELECT "offset" - lag("offset") OVER (ORDER BY n) AS step FROM applied) AS a WHERE step <> 1`), 0)
			if crashes.Load() == 0 || cuts.Load() == 0 {
				t.Errorf("%d crashes and %d lost connections, want some of each", crashes.Load(), cuts.Load())
			}
		})
	}
}
