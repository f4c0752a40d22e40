package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/redislog"
)

// farLog returns a way to the world's log, and the log that one sees on it.
func farLog(t *testing.T, w *world.World) (*proxy.Proxy, unilog.Log) {
	t.Helper()
	way, err := proxy.For(testenv.SharedRedis(t))
	w.Must(err)
	t.Cleanup(way.Close)
	log, err := redislog.Open(w.Ctx, way.URL(), w.Stream)
	w.Must(err)
	t.Cleanup(log.Close)
	t.Cleanup(func() { world.Heal(way) })
	return way, log
}

// TestLogThatOneProcessCannotRead cuts one of two processes off from the log.
func TestLogThatOneProcessCannotRead(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]struct{ begins, ends func(*proxy.Proxy) }{
		"it is refused": {
			func(way *proxy.Proxy) { way.Refuse(true); way.Cut() },
			func(way *proxy.Proxy) { way.Refuse(false) },
		},
		"there is no answer": {func(way *proxy.Proxy) { way.Blackhole(proxy.ToServer | proxy.ToClient) }, world.Heal},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := world.SetupPartitionsOnRedis(t, 2)
			p.FreezeClock()
			way, log := farLog(t, p.World)
			cut := p.Run(func(cfg *consumer.Config) { cfg.Log = log })
			cut.AwaitReads(0, 1)
			other := p.Run(patient)
			p.AwaitShares("1 1")
			p.WriteAll()
			p.AwaitApplied("sum")

			fault.begins(way)
			p.WriteAll()
			p.AwaitApplied("sum")
			other.AwaitReads(0, 1)
			world.AwaitQuery(p.World, "the number of members", 1, `SELECT count(*)::int FROM unilog.members`)
			p.AwaitReady(other.Consumer.Ready)
			p.AwaitNotReady(cut.Consumer.Ready, "the log")
			cut.AwaitReads()
			changes := cut.Changes.Load()
			renewals(p, 8) // those of the other
			if n := cut.Changes.Load(); n != changes {
				t.Errorf("it has taken a lease although it cannot read: %s", cut.Reads())
			}
			p.WantReady(cut.Consumer.Ready, "the log")

			fault.ends(way)
			p.AwaitShares("1 1")
			p.WriteAll()
			p.AwaitApplied("sum")
			await.True(t, "that the process is ready again", func() bool { return cut.Consumer.Ready() == nil })
			cut.Stop()
			other.Stop()
			p.WantTotal("sum", "6")
		})
	}
}

// TestLogThatNoProcessCanRead cuts all of them off.
func TestLogThatNoProcessCanRead(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"the only one": 1, "both": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := world.SetupPartitionsOnRedis(t, 2)
			if number == 1 {
				p.FreezeClock() // lest it loses its leases because the machine is slow
			}
			way, log := farLog(t, p.World)
			processes := make([]*world.Process, number)
			for i := range processes {
				processes[i] = p.Run(func(cfg *consumer.Config) { cfg.Log = log })
			}
			shares := map[int]string{1: "2", 2: "1 1"}[number]
			p.AwaitShares(shares)
			if number == 1 {
				processes[0].AwaitReads(0, 1) // it has counted its last change
			}
			way.Refuse(true)
			way.Cut()
			for _, m := range processes {
				await.True(t, "that no process is ready", func() bool { return m.Consumer.Ready() != nil })
			}
			if number == 1 {
				changes := processes[0].Changes.Load()
				renewals(p, 12)
				if n := processes[0].Changes.Load(); n != changes {
					t.Errorf("the only process has changed its leases: it reads %s", processes[0].Reads())
				}
			} else {
				p.Await("one of them to leave the partitions to the other", func() string {
					if shares := world.Query[int](p.World, `SELECT count(DISTINCT member) FROM unilog.leases`); shares == 2 {
						return "both have leases"
					}
					return ""
				})
			}
			way.Refuse(false)
			p.WriteAll()
			p.AwaitApplied("sum")
			p.AwaitShares(shares)
			for _, m := range processes {
				m.Stop()
			}
		})
	}
}

// deaf is a log that fails in one partition as long as it is told to: in the first one that
// is read then.
type deaf struct {
	unilog.Log
	isDeaf    *atomic.Bool
	partition *atomic.Int32 // from 1 on
}

var errDeaf = errors.New("deaf")

func (l deaf) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if n := int32(partition) + 1; l.isDeaf.Load() && (l.partition.CompareAndSwap(0, n) || l.partition.Load() == n) {
		return nil, errDeaf
	}
	return l.Log.Read(ctx, partition, after, limit, wait)
}

// TestPartitionThatOneProcessCannotRead leaves the process the others, and an even
// share of them.
func TestPartitionThatOneProcessCannotRead(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 4)
	p.FreezeClock()
	hasty := func(cfg *consumer.Config) { *cfg = consumer.WithPatience(*cfg, 2*time.Second) }
	var isDeaf atomic.Bool
	cut := p.Run(hasty, greedy, func(cfg *consumer.Config) { cfg.Log = deaf{cfg.Log, &isDeaf, new(atomic.Int32)} })
	cut.AwaitReads(0, 1, 2, 3)
	other := p.Run(patient, greedy)
	p.AwaitShares("2 2")
	isDeaf.Store(true)
	p.AwaitNotReady(cut.Consumer.Ready, errDeaf.Error())
	p.WriteAll()
	p.AwaitApplied("sum")
	p.AwaitNotReady(cut.Consumer.Ready, errDeaf.Error()) // its other partition may say more for a moment
	p.AwaitReady(other.Consumer.Ready)
	p.AwaitShares("2 2")
	isDeaf.Store(false)
	await.True(t, "that the process is ready again", func() bool { return cut.Consumer.Ready() == nil })
	p.WriteAll()
	p.AwaitApplied("sum")
	cut.Stop()
	other.Stop()
}

// hanging makes a handler hang that is called when it is told to, until it is enough.
// Then it writes and commits, as far as it can.
func hanging(hangs, enough, committed chan struct{}) func(*consumer.Config) {
	return func(cfg *consumer.Config) {
		cfg.HandlerTimeout = time.Second
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			ctx = context.WithoutCancel(ctx)
			if world.Happened(enough) || entries[0].Partition > 0 {
				return add(ctx, tx, entries)
			}
			if !world.Happened(hangs) {
				close(hangs)
			}
			<-enough
			if add(ctx, tx, entries) == nil && tx.Commit(ctx) == nil {
				close(committed)
			}
			return nil
		}
	}
}

// TestHungHandlerIsLeftToOthers has a handler that ignores its context.
func TestHungHandlerIsLeftToOthers(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 2)
	hangs, enough, committed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	hung := p.Run(hanging(hangs, enough, committed))
	hung.AwaitReads(0, 1)
	p.Write(0, "1")
	await.Receive(t, "the handler to hang", hangs)
	other := p.Run()
	p.WriteAll()
	p.AwaitApplied("sum")
	await.True(t, "that the process is not ready because of its handler", func() bool {
		return strings.Contains(fmt.Sprint(hung.Consumer.Ready()), "the handler does not return")
	})
	await.True(t, "that the other process is ready", func() bool { return other.Consumer.Ready() == nil })
	close(enough)
	await.True(t, "that the process is ready again", func() bool { return hung.Consumer.Ready() == nil })
	p.WriteAll()
	p.AwaitApplied("sum")
	p.AwaitShares("1 1")
	hung.Stop()
	other.Stop()
	if world.Happened(committed) {
		t.Error("the handler has committed after others had its partition")
	}
	p.WantTotal("sum", "5")
}

// TestHungProcessThatIsLeftAlone does what it still can.
func TestHungProcessThatIsLeftAlone(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 2)
	p.FreezeClock()
	hangs, enough, committed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	hung := p.Run(patient, hanging(hangs, enough, committed))
	hung.AwaitReads(0, 1)
	other := p.Run(patient)
	hung.AwaitReads(0)
	other.AwaitReads(1)
	p.Write(0, "1")
	await.Receive(t, "the handler to hang", hangs)
	hung.AwaitReads()
	p.WriteAll()
	p.AwaitApplied("sum")
	other.Stop()
	hung.AwaitReads(1)
	p.Write(1, "1")
	p.AwaitApplied("sum")
	p.AwaitNotReady(hung.Consumer.Ready, "the handler does not return")
	close(enough)
	hung.AwaitReads(0, 1)
	p.WriteAll()
	p.AwaitApplied("sum")
	hung.Stop()
}

// TestHungProcessTakesNothing has one of three processes hang in one of its partitions,
// and another one leave.
func TestHungProcessTakesNothing(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitionsOnRedis(t, 4)
	p.FreezeClock()
	hangs, enough, committed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	hung := p.Run(patient, hanging(hangs, enough, committed))
	hung.AwaitReads(0, 1, 2, 3)
	first, second := p.Run(patient, greedy), p.Run(patient, greedy)
	hung.AwaitReads(0, 1)
	p.AwaitShares("1 1 2")
	p.Write(0, "1")
	await.Receive(t, "the handler to hang", hangs)
	hung.AwaitReads(1)
	p.WriteAll()
	p.AwaitApplied("sum")
	first.Stop()
	second.AwaitReads(0, 2, 3)
	hung.AwaitReads(1)
	close(enough)
	second.Stop()
	hung.AwaitReads(0, 1, 2, 3)
	hung.Stop()
}

// TestRunEndsWhileAHandlerHangs sees that nothing waits for it: neither Run, nor who
// closes the connections, nor who needs the checkpoint's row.
func TestRunEndsWhileAHandlerHangs(t *testing.T) {
	t.Parallel()
	for name, hang := range map[string]func(ctx context.Context, tx pgx.Tx, enough chan struct{}){
		"in the process": func(_ context.Context, _ pgx.Tx, enough chan struct{}) { <-enough },
		"in Postgres": func(ctx context.Context, tx pgx.Tx, enough chan struct{}) {
			_, _ = tx.Exec(context.WithoutCancel(ctx), `SELECT pg_sleep(3600)`)
			<-enough
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Publish(2)
			db, err := pgxpool.NewWithConfig(w.Ctx, w.DB.Config())
			w.Must(err)
			ctx, stop := context.WithCancel(w.Ctx)
			enough, returned := make(chan struct{}), make(chan error, 1)
			c := w.Consumer("sum", func(cfg *consumer.Config) {
				cfg.DB = db
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
					stop()
					hang(ctx, tx, enough)
					_, err := tx.Exec(context.WithoutCancel(ctx), `INSERT INTO sums VALUES ('sum', 100)`)
					returned <- err
					return nil
				}
			})
			ended := make(chan error, 1)
			go func() { ended <- c.Run(ctx) }()
			w.Must(await.Receive(t, "Run to end", ended))
			closed := make(chan struct{})
			go func() { db.Close(); close(closed) }()
			await.Receive(t, "the connections to close", closed)
			w.WantCount("applied by another process", w.Consume(w.Consumer("sum")), 2)
			close(enough)
			if err := await.Receive(t, "the handler to return", returned); err == nil {
				t.Error("it writes in its transaction when that is over")
			}
			w.WantTotal("sum", "2")
		})
	}
}

// TestConsumerThatHangsInRunOnce sees that a handler that hangs is not called again
// before it has returned.
func TestConsumerThatHangsInRunOnce(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(1)
	enough, calls := make(chan struct{}), make(chan struct{}, 10)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.HandlerTimeout = time.Second
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			calls <- struct{}{}
			<-enough
			return add(context.WithoutCancel(ctx), tx, entries)
		}
	})
	for range 3 {
		if n, err := c.RunOnce(w.Ctx); n != 0 || err == nil {
			t.Errorf("it applied %d and says %v", n, err)
		}
		w.WantReady(c.Ready, "the handler does not return")
	}
	w.WantCount("calls", len(calls), 1)
	close(enough)
	await.Equal(t, "the total", "1", func() string {
		_, _ = c.RunOnce(w.Ctx)
		return w.Total("sum")
	})
	w.WantReady(c.Ready, "")
}
