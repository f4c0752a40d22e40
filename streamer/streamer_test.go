package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

func TestStreamerMovesRecordsToTheLog(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.WantCount("published of nothing", w.Drain(s), 0)
	w.Commit("1", "2")
	w.Commit("3")
	w.WantCount("published", w.Drain(s), 3)
	w.WantCount("staged rows left", world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 0)
	if offsets := w.Offsets(); !slices.Equal(offsets, []int64{1, 2, 3}) {
		t.Errorf("the log holds the offsets %v", offsets)
	}
	if published := world.Query[int64](w, `SELECT published_offset FROM unilog.partitions`); published != 3 {
		t.Errorf("published_offset is %d, want 3", published)
	}
}

func TestStreamerCrashes(t *testing.T) {
	t.Parallel()
	crashOnce := func(crashed *bool) func(context.Context, []unilog.Entry) error {
		return func(context.Context, []unilog.Entry) error {
			if *crashed {
				return nil
			}
			*crashed = true
			return unilog.ErrSimulated
		}
	}
	for name, c := range map[string]struct {
		hook    func(h *streamer.Hooks, crashed *bool)
		entries int // in the stream when it crashes
	}{
		"after numbering":         {func(h *streamer.Hooks, crashed *bool) { h.AfterNumber = crashOnce(crashed) }, 0},
		"in the middle of append": {func(h *streamer.Hooks, crashed *bool) { h.MidAppend = crashOnce(crashed) }, 2},
		"after the append":        {func(h *streamer.Hooks, crashed *bool) { h.AfterAppend = crashOnce(crashed) }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			crashed := false
			s := w.Streamer(func(cfg *streamer.Config) {
				*cfg = streamer.WithAppendRecords(*cfg, 2)
				c.hook(&cfg.Hooks, &crashed)
			})
			w.Commit("1", "2", "3", "4", "5")
			if _, err := w.Patiently(s.RunOnce); !errors.Is(err, unilog.ErrSimulated) || s.Leads() {
				t.Fatalf("the crash gave %v, and the streamer leads: %v", err, s.Leads())
			}
			w.WantCount("stream entries at the crash", len(w.Offsets()), c.entries)
			w.Drain(w.Streamer()) // another process
			w.WantCount("stream entries", len(w.Offsets()), 5)
			w.Consume(w.Consumer("sum"))
			w.WantTotal("sum", "15")
		})
	}
}

// TestZombieDoesNoHarm lets a leader sleep through the loss of its lock at each
// step, as a frozen process would, and wake up when another has led.
func TestZombieDoesNoHarm(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"before it numbers", "after numbering", "in the middle of append", "after the append"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func(t *testing.T) bool { return wakeZombie(t, where) })
		})
	}
}

// wakeZombie says whether the machine was quick enough for the first of its terms.
func wakeZombie(t *testing.T, where string) (undisturbed bool) {
	t.Helper()
	w := world.SetupOnRedis(t)
	successor := w.Streamer()
	takeOver := func(context.Context, []unilog.Entry) error {
		// The lock goes, the session stays: the worst case.
		w.Exec(`UPDATE unilog.partitions SET epoch = epoch + 1`)
		epoch := world.Query[int64](w, `SELECT epoch FROM unilog.partitions`)
		head, err := w.Log.Head(w.Ctx, 0)
		w.Must(err)
		if head.Offset > 0 { // the successor has announced itself to the log, too
			w.Command("HSET", "{"+w.Stream+"}:leader", "epoch", fmt.Sprint(epoch))
		}
		return nil
	}
	zombie := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithAppendRecords(*cfg, 2)
		switch where {
		case "after numbering":
			cfg.Hooks.AfterNumber = takeOver
		case "in the middle of append":
			cfg.Hooks.MidAppend = takeOver
		case "after the append":
			cfg.Hooks.AfterAppend = takeOver
		}
	})
	_, err := w.Patiently(zombie.RunOnce) // leads
	w.Must(err)
	w.Commit("1", "2", "3")
	if where == "before it numbers" {
		w.Must(takeOver(w.Ctx, nil))
	}
	var fenced *unilog.FencedError
	for err = nil; err == nil; {
		_, err = zombie.RunOnce(w.Ctx)
	}
	if world.IsSlow(err) {
		return false
	}
	if !errors.As(err, &fenced) || zombie.Leads() {
		t.Errorf("the zombie says %v, and leads: %v", err, zombie.Leads())
	}
	if published := world.Query[int64](w, `SELECT published_offset FROM unilog.partitions`); published != 0 {
		t.Errorf("the zombie recorded %d as published", published)
	}
	w.Drain(successor)
	w.WantCount("stream entries", len(w.Offsets()), 3)
	return true
}

func TestStreamerRefusesALogThatHasDiverged(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(5)
	w.StreamAll()
	// The database forgets two commits, which the log has, and makes others.
	forget(w, 3)
	w.Exec(`DELETE FROM amounts WHERE id > 3`)
	w.CommitMany(5)
	// They get their offsets beside another log, or else the comparison would forbid it.
	crashed := w.Streamer(func(cfg *streamer.Config) {
		cfg.Log = logtest.NewMemory()
		cfg.Hooks.AfterNumber = func(context.Context, []unilog.Entry) error { return unilog.ErrSimulated }
	})
	if _, err := w.Patiently(crashed.RunOnce); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("the crash gave %v", err)
	}
	crashed.Close()
	s := w.Streamer()
	_, err := w.Patiently(s.RunOnce)
	var diverged *unilog.DivergedError
	if !errors.As(err, &diverged) || diverged.Offset != 5 {
		t.Fatalf("the streamer says %v, want another record at offset 5", err)
	}
	w.Command("DEL", w.Stream)
	w.Drain(s)
	w.WantCount("stream entries", len(w.Offsets()), 8)
}

func TestStreamerRunsWithWritersAndConsumers(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	ctx, stop := context.WithCancel(w.Ctx)
	var processes, writers errgroup.Group
	for i := range 2 {
		s := w.Streamer(func(cfg *streamer.Config) {
			cfg.Hooks.AfterAppend = unilog.SimulateFailures(0.2, uint64(i))
		})
		processes.Go(func() error { return s.Run(ctx) })
		c := w.Consumer(fmt.Sprint("sum", i), func(cfg *consumer.Config) {
			cfg.Hooks.BeforeCommit = unilog.SimulateFailures(0.2, uint64(i))
		})
		processes.Go(func() error { return c.Run(ctx) })
	}
	for range 4 {
		writers.Go(func() error {
			for range 50 {
				w.Commit("1", "2")
			}
			return nil
		})
	}
	w.Ended("the writers", &writers)
	w.AwaitTotal("sum0", "600")
	w.AwaitTotal("sum1", "600")
	stop()
	w.Ended("the processes", &processes)
	w.WantCount("stream entries", len(w.Offsets()), 400)
}

func TestStreamerConfig(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	for field, break_ := range map[string]func(c *streamer.Config){
		"DB":             func(c *streamer.Config) { c.DB = nil },
		"Log":            func(c *streamer.Config) { c.Log = nil },
		"BatchRecords":   func(c *streamer.Config) { c.BatchRecords = 100_001 },
		"KeepRecords":    func(c *streamer.Config) { c.KeepRecords = -1 },
		"Retention":      func(c *streamer.Config) { c.Retention = -1 },
		"ConsumerExpiry": func(c *streamer.Config) { c.ConsumerExpiry = time.Second },
	} {
		cfg := streamer.Config{DB: w.DB, Log: w.Log}
		break_(&cfg)
		if _, err := streamer.New(cfg); err == nil || !strings.Contains(err.Error(), "streamer: Config."+field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
}

// running runs a streamer until stop is called.
func running(w *world.World, s *streamer.Streamer) (stop func()) {
	ctx, cancel := context.WithCancel(w.Ctx)
	w.Cleanup(cancel)
	var group errgroup.Group
	group.Go(func() error { return s.Run(ctx) })
	return func() { w.Helper(); cancel(); w.Ended("the streamer", &group) }
}

// TestRunAfterRunOnce lets Run go on with the lead that RunOnce took.
func TestRunAfterRunOnce(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(2, 1)
	s := w.Streamer()
	w.Drain(s)
	stop := running(w, s)
	w.CommitMany(10)
	w.AwaitPublished(10)
	stop()
}

// BenchmarkDrain numbers and publishes a backlog of 10,000 records.
func BenchmarkDrain(b *testing.B) {
	w := world.SetupOnRedis(b)
	s := w.Streamer()
	w.Drain(s)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		w.CommitMany(10_000)
		b.StartTimer()
		n += w.Drain(s)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

func TestStreamerIsReady(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var crash error
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error { return crash }
	})
	w.WantReady(s.Ready, "has not looked yet")
	w.Drain(s)
	w.WantReady(s.Ready, "")

	standby := w.Streamer()
	w.Await("the standby to be ready", func() string { // its look at the log may take too long
		if _, err := w.Timely(standby.RunOnce); !errors.Is(err, unilog.ErrStandby) {
			t.Fatalf("the second streamer: %v", err)
		}
		if err := standby.Ready(); err != nil {
			return err.Error()
		}
		return ""
	})

	crash = unilog.ErrSimulated
	w.Commit("1")
	if _, err := w.Patiently(s.RunOnce); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("no simulated failure, but %v", err)
	}
	w.WantReady(s.Ready, "")

	s.Close()
	crash = nil
	w.Memory.SetLogID(0, "another")
	if err := w.EndOf(w.Ctx, s.Run); err == nil {
		t.Fatal("it runs with another database's log")
	}
	w.WantReady(s.Ready, "belongs to another database")
	var foreign *unilog.ForeignLogError
	if !errors.As(s.Ready(), &foreign) {
		t.Errorf("the reason is %T", s.Ready())
	}
	w.Wipe()
	w.Drain(s)
	w.WantReady(s.Ready, "")
}

var errRefused = errors.New("it takes nothing")

// refusing is a log that takes nothing as long as it is told so.
type refusing struct {
	unilog.Log
	refuses         atomic.Bool
	attempts, ready atomic.Int32
	isReady         func() error
}

func (r *refusing) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	if r.refuses.Load() {
		r.attempts.Add(1)
		return 0, errRefused
	}
	return r.Log.Append(ctx, term, entries)
}

func (r *refusing) Head(ctx context.Context, partition int) (unilog.Head, error) { // how an attempt begins
	if r.attempts.Load() > 0 && r.refuses.Load() && r.isReady() == nil {
		r.ready.Add(1)
	}
	return r.Log.Head(ctx, partition)
}

// TestFailingStreamerIsNotReady has a log that takes nothing, and nobody else who leads:
// the streamer is not ready between its attempts either.
func TestFailingStreamerIsNotReady(t *testing.T) {
	t.Parallel()
	undisturbed(t, failAllTheTime)
}

// failAllTheTime says whether all failures were the log's: a session that was given up may
// still have its locks, as another streamer would.
func failAllTheTime(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.SetupOnRedis(t)
	log := &refusing{Log: w.Log}
	var slow atomic.Bool
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.Log = log
		cfg.Observer.Failed = func(err error) { slow.Store(slow.Load() || !errors.Is(err, errRefused)) }
	})
	log.isReady = s.Ready
	log.refuses.Store(true)
	stop := running(w, s)
	w.Commit("1")
	w.AwaitThat("some attempts", func() bool { return log.attempts.Load() > 4 })
	n := log.ready.Load()
	if undisturbed = !slow.Load(); undisturbed && n > 0 {
		t.Errorf("it was ready before %d attempts", n)
	}
	log.refuses.Store(false)
	w.AwaitPublished(1)
	w.AwaitThat("the streamer to be ready", func() bool { return s.Ready() == nil })
	stop()
	return undisturbed
}

// TestReadyIsConcurrent is for the race detector.
func TestReadyIsConcurrent(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	w.AwaitThat("the streamer to be ready", func() bool { return s.Ready() == nil })
	stop()
	w.Must(await.Receive(t, "the streamer to end", ended))
}

// forget takes the first partition of the archive back to an offset, as a restore of the
// database would.
func forget(w *world.World, after int64) {
	w.Helper()
	w.Exec(`DELETE FROM unilog.batches WHERE partition = 0 AND first_offset > $1`, after)
	w.Exec(`
		UPDATE unilog.batches SET last_offset = $1, staged_at = staged_at[:n], action = action[:n], object = object[:n],
			key = key[:n], data = data[:n], headers = headers[:n]
		FROM (SELECT last_offset AS was, ($1::bigint - first_offset + 1)::integer AS n FROM unilog.batches WHERE partition = 0) AS cut
		WHERE partition = 0 AND last_offset = was AND last_offset > $1`, after)
	w.Exec(`UPDATE unilog.partitions SET next_offset = $1::bigint + 1, published_offset = least(published_offset, $1) WHERE partition = 0`, after)
}
