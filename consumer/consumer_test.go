package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

func checkpoint(w *world.World, name string) int64 {
	w.Helper()
	return world.Query[int64](w, `SELECT "offset" FROM unilog.checkpoints WHERE name = $1`, name)
}

func TestConsumerGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.WantCount("applied of an empty log", w.Consume(w.Consumer("sum")), 0)
	w.Commit("1", "2")
	w.Drain(s)
	w.WantCount("applied", w.Consume(w.Consumer("sum")), 2)
	w.Commit("3")
	w.Drain(s)
	w.WantCount("applied by another process", w.Consume(w.Consumer("sum")), 1)
	w.WantCount("applied with nothing new", w.Consume(w.Consumer("sum")), 0)
	w.WantTotal("sum", "6")
	if at := checkpoint(w, "sum"); at != 3 {
		t.Errorf("the checkpoint is %d, want 3", at)
	}
}

func TestConsumerConfig(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	good := consumer.Config{Name: "sum", DB: w.DB, Log: w.Log, Handler: world.CountEntries(new(int))}
	for field, break_ := range map[string]func(c *consumer.Config){
		"Name":         func(c *consumer.Config) { c.Name = "" },
		"Name must":    func(c *consumer.Config) { c.Name = "\xff" },
		"DB":           func(c *consumer.Config) { c.DB = nil },
		"Log":          func(c *consumer.Config) { c.Log = nil },
		"Handler":      func(c *consumer.Config) { c.Handler = nil },
		"BatchRecords": func(c *consumer.Config) { c.BatchRecords = -1 },
	} {
		cfg := good
		break_(&cfg)
		if _, err := consumer.New(cfg); err == nil || !strings.Contains(err.Error(), "consumer: Config."+field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
}

// BenchmarkConsume reads 10,000 entries and saves a checkpoint for each batch.
func BenchmarkConsume(b *testing.B) {
	w := world.SetupOnRedis(b)
	w.CommitMany(10_000)
	w.Drain(w.Streamer())
	n := 0
	c := w.Consumer("count", func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(new(int)) })
	b.ReportAllocs()
	for b.Loop() {
		w.Exec(`UPDATE unilog.checkpoints SET "offset" = 0`)
		c.Reread()
		n += w.Consume(c)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	w.Exec(`TRUNCATE unilog.checkpoints, amounts`)
}

func TestConsumerIsReady(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	poisoned, crash := false, error(nil)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if poisoned {
				return fmt.Errorf("poison\nand more: %w", context.Canceled) // of its own
			}
			return add(ctx, tx, entries)
		}
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error { return crash }
	})
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	w.WantReady(c.Ready, "has not looked yet")
	w.Consume(c)
	w.WantReady(c.Ready, "")

	w.Commit("2")
	w.Drain(s)
	crash = unilog.ErrSimulated
	if _, err := c.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("no simulated failure, but %v", err)
	}
	w.WantReady(c.Ready, "")

	crash, poisoned = nil, true
	if err := w.EndOf(w.Ctx, c.Run); err == nil {
		t.Fatal("it applied poison")
	}
	w.WantReady(c.Ready, "halts at offset 2 of partition 0: its handler rejected the record: poison and more")
	poisoned = false
	w.Consume(c)
	w.WantReady(c.Ready, "")

	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 9`)
	c.Reread()
	if err := w.EndOf(w.Ctx, c.Run); err == nil {
		t.Fatal("it is ahead of its source")
	}
	w.WantReady(c.Ready, "is 9 but its source is only at 2")
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 2`)
	w.Consume(c)
	w.WantReady(c.Ready, "")

	alone := w.Consumer("alone", func(cfg *consumer.Config) { cfg.Archive = nil })
	w.Must(w.Memory.Trim(w.Ctx, 0, 1))
	if err := w.EndOf(w.Ctx, alone.Run); err == nil {
		t.Fatal("it passed over a gap")
	}
	w.WantReady(alone.Ready, "cannot have offsets 1 to 1")
	w.Exec(`DELETE FROM unilog.checkpoints WHERE name = 'alone'`)
}

// What passes is over with the next success.
func TestReadyThroughFaults(t *testing.T) {
	t.Parallel()
	for _, server := range []string{"Postgres", "Redis"} {
		t.Run(server, func(t *testing.T) {
			t.Parallel()
			n := world.SetupNetwork(t)
			s, c := n.FarStreamer(), n.FarConsumer("sum")
			n.Commit("1")
			n.Drain(s)
			n.Consume(c)
			n.WantReady(s.Ready, "")
			n.WantReady(c.Ready, "")

			n.Proxy(server).Refuse(true)
			n.Proxy(server).Cut()
			n.Commit("1")
			reason := map[string]string{"Postgres": "connect to", "Redis": "the log"}[server]
			fails := func(f world.Once, ready func() error) {
				await.That(t, "the loss of "+server+" to be noticed", func() string {
					_, err := f(n.Ctx)
					if err != nil && strings.Contains(err.Error(), reason) {
						return ""
					}
					return fmt.Sprint(err)
				})
				n.WantReady(ready, reason)
			}
			fails(s.RunOnce, s.Ready)
			fails(c.RunQuiet, c.Ready)

			n.Proxy(server).Refuse(false)
			n.Insist(s.RunOnce, func() {})
			n.Insist(c.RunOnce, func() {})
			n.WantReady(s.Ready, "")
			n.WantReady(c.Ready, "")
			s.Close()
			n.Check(2)
		})
	}
}

func TestRunOnceReadsAllPartitions(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 3)
	p.Exec(`INSERT INTO unilog.members (name, member) VALUES ('sum', 'another')`)
	p.Exec(`INSERT INTO unilog.leases VALUES ('sum', 1, 'another')`)
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

	p.Exec(`UPDATE unilog.log SET partitions = 2`) // the third one has a history
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
	p.WantReady(c.Ready, "halts at offset 2 of partition 1")
	p.WantCount("applied when that is mended", p.Consume(p.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = p.Add("sum") })), 1)
}

func TestConsumerGapThatNobodyCanFill(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(20)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")
	w.LoseArchive(0, 3)
	var gap *unilog.GapError
	err := w.EndOf(w.Ctx, w.Consumer("late", func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(new(int)) }).Run)
	if !errors.As(err, &gap) || gap.From != 1 || gap.To != 3 || !gap.Archive {
		t.Errorf("Run returned %v, want a gap from 1 to 3", err)
	}
	w.Exec(`DELETE FROM unilog.checkpoints`) // it never agrees, and is not meant to
}

// TestGapIsFilledInSmallerBatches lets a handler run out of time with what the
// archive gives, as with what the log does.
func TestGapIsFilledInSmallerBatches(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(9)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MINID", "9")
	var sizes []int
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		*cfg = consumer.WithSilence(*cfg, await.Patience) // it is the handler's time that is over
		cfg.HandlerTimeout = 50 * time.Millisecond
		cfg.Handler = func(ctx context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			sizes = append(sizes, len(entries))
			<-ctx.Done()
			return ctx.Err()
		}
	})
	for range 4 {
		if _, err := c.RunOnce(w.Ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it says %v, want that the handler ran out of time", err)
		}
	}
	if got := fmt.Sprint(sizes); got != "[8 4 2 1]" {
		t.Errorf("the batches have %s records, want fewer each time", got)
	}
}

// TestRunOnceLeavesNothingRunning sees that it reads no more than it applies.
func TestRunOnceLeavesNothingRunning(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(20)
	w.Drain(w.Streamer())
	var reads []int64
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.BatchRecords = 10
		cfg.Log = watched{w.Log, func(_ context.Context, after int64) error {
			reads = append(reads, after)
			return nil
		}}
	})
	w.Consume(c)
	if got := fmt.Sprint(reads); got != "[0 10 20]" {
		t.Errorf("it reads after the offsets %s", got)
	}
}
