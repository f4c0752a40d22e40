package streamer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
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
	w.WantCount("staged rows left", world.Query[int](w, `SELECT count(*) FROM staged_log_records`), 0)
	if ids := strings.Join(w.StreamIDs(), " "); ids != "1-0 2-0 3-0" {
		t.Errorf("the stream holds %s", ids)
	}
	if published := world.Query[int64](w, `SELECT published_offset FROM log_partitions`); published != 3 {
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
			w := world.Setup(t)
			crashed := false
			s := w.Streamer(func(cfg *streamer.Config) {
				*cfg = streamer.WithAppendRecords(*cfg, 2)
				c.hook(&cfg.Hooks, &crashed)
			})
			w.Commit("1", "2", "3", "4", "5")
			if _, err := s.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrSimulated) || s.Leads() {
				t.Fatalf("the crash gave %v, and the streamer leads: %v", err, s.Leads())
			}
			w.WantCount("stream entries at the crash", len(w.StreamIDs()), c.entries)
			w.Drain(w.Streamer()) // another process
			w.WantCount("stream entries", len(w.StreamIDs()), 5)
			w.Consume(w.Consumer("sum"))
			w.WantTotal("sum", "15")
		})
	}
}

func TestOneStreamerLeads(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	first, second := w.Streamer(), w.Streamer()
	w.Commit("1")
	w.Drain(first)
	if _, err := second.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrStandby) {
		t.Fatalf("the second streamer says %v, want ErrStandby", err)
	}
	epoch := first.Term().Epoch
	first.Close()
	w.Commit("2")
	w.WantCount("published by the second", w.Drain(second), 1)
	if second.Term().Epoch <= epoch {
		t.Errorf("the second's epoch is %d, the first's was %d", second.Term().Epoch, epoch)
	}
}

// TestZombieDoesNoHarm lets a leader sleep through the loss of its lock at each
// step, as a frozen process would, and wake up when another has led.
func TestZombieDoesNoHarm(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"before it numbers", "after numbering", "in the middle of append", "after the append"} {
		t.Run(where, func(t *testing.T) {
			t.Parallel()
			w := world.Setup(t)
			successor := w.Streamer()
			takeOver := func(context.Context, []unilog.Entry) error {
				// The lock goes, the session stays: the worst case.
				w.Exec(`UPDATE log_partitions SET epoch = epoch + 1`)
				epoch := world.Query[int64](w, `SELECT epoch FROM log_partitions`)
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
			_, err := zombie.RunOnce(w.Ctx) // leads
			w.Must(err)
			w.Commit("1", "2", "3")
			if where == "before it numbers" {
				w.Must(takeOver(w.Ctx, nil))
			}
			var fenced *unilog.FencedError
			for err = nil; err == nil; {
				_, err = zombie.RunOnce(w.Ctx)
			}
			if !errors.As(err, &fenced) || zombie.Leads() {
				t.Errorf("the zombie says %v, and leads: %v", err, zombie.Leads())
			}
			if published := world.Query[int64](w, `SELECT published_offset FROM log_partitions`); published != 0 {
				t.Errorf("the zombie recorded %d as published", published)
			}
			w.Drain(successor)
			w.WantCount("stream entries", len(w.StreamIDs()), 3)
		})
	}
}

func TestStreamerRefusesALogThatIsAhead(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(10)
	s := w.Streamer()
	w.Drain(s)
	s.Close()
	w.Exec(`DELETE FROM log_records WHERE "offset" > 5`) // as a restore would
	w.Exec(`UPDATE log_partitions SET next_offset = 6, published_offset = 5`)
	var ahead *unilog.LogAheadError
	if err := w.Streamer().Run(w.Ctx); !errors.As(err, &ahead) || ahead.Log != 10 || ahead.Database != 5 {
		t.Fatalf("the streamer says %v, want the heads 10 and 5", err)
	}
	// The way out that the message gives.
	w.Command("DEL", w.Stream)
	w.Exec(`DELETE FROM amounts WHERE id > 5`)
	w.Drain(w.Streamer())
	w.WantCount("stream entries", len(w.StreamIDs()), 5)
}

func TestStreamerRefusesALogThatHasDiverged(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.CommitMany(5)
	w.Drain(s)
	// The database forgets two commits, which the log has, and makes others.
	w.Exec(`DELETE FROM log_records WHERE "offset" > 3`)
	w.Exec(`UPDATE log_partitions SET next_offset = 4, published_offset = 3`)
	w.Exec(`DELETE FROM amounts WHERE id > 3`)
	w.CommitMany(5)
	_, err := s.RunOnce(w.Ctx)
	var diverged *unilog.DivergedError
	if !errors.As(err, &diverged) || diverged.Offset != 5 {
		t.Fatalf("the streamer says %v, want another record at offset 5", err)
	}
	w.Command("DEL", w.Stream)
	w.Drain(s)
	w.WantCount("stream entries", len(w.StreamIDs()), 8)
}

func TestFrozenLeaderLosesTheLead(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	frozen := w.Streamer(world.Short)
	w.Commit("1")
	w.Attempt("the leader to publish", func(ctx context.Context) (bool, error) {
		_, err := frozen.RunOnce(ctx)
		return err == nil, err
	})
	epoch := frozen.Term().Epoch
	// It does nothing any more, and its connection stays open.
	next := w.Streamer()
	w.AwaitLead(next)
	w.Commit("2")
	w.Drain(next)
	// The log refuses it even before it has heard of the loss of its session.
	var fenced *unilog.FencedError
	if _, err := w.Log.Claim(w.Ctx, unilog.Term{LogID: next.Term().LogID, Epoch: epoch}); !errors.As(err, &fenced) {
		t.Errorf("the log says %v to the frozen leader's term", err)
	}
	if _, err := frozen.RunOnce(w.Ctx); err == nil {
		t.Error("the frozen leader wakes up and leads")
	}
}

func TestStreamerWithoutConsumersInItsDatabase(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Exec(`ALTER TABLE checkpoints RENAME TO elsewhere`)
	s := w.Streamer()
	w.CommitMany(10)
	w.WantCount("published", w.Drain(s), 10)
	w.Must(s.Upkeep(w.Ctx))
	w.Exec(`ALTER TABLE elsewhere RENAME TO checkpoints`)
}

func TestFailedUpkeepDoesNotStopThePublishing(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithChunkRecords(*cfg, 100)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
	})
	w.CommitMany(150)
	w.Drain(s)
	w.Exec(`CREATE VIEW report AS SELECT * FROM log_records_p0_1_to_100`) // so it cannot be dropped
	w.Exec(`CREATE TABLE log_records_old PARTITION OF log_records FOR VALUES FROM (7, 1) TO (7, 2)`)
	w.Must(s.Upkeep(w.Ctx))
	w.CommitMany(150)
	w.WantCount("published", w.Drain(s), 150)
	w.Exec(`DROP VIEW report`)
	w.Must(s.Upkeep(w.Ctx))
	w.WantCount("archived", world.Query[int](w, `SELECT count(*) FROM log_records`), 100)
}

func TestStreamerRefusesALogOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w, other := world.Setup(t), world.Setup(t)
	other.Exec(`UPDATE log_partitions SET log_id = gen_random_uuid()`) // both are copies of one
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	var foreign *unilog.ForeignLogError
	err := other.Streamer(func(cfg *streamer.Config) { cfg.Log = w.Log }).Run(w.Ctx)
	if !errors.As(err, &foreign) {
		t.Errorf("a streamer of another database says %v", err)
	}
	w.Commit("2")
	w.WantCount("published as if nothing had been", w.Drain(s), 1)
}

func TestStreamerRunsWithWritersAndConsumers(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
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
	w.WantCount("stream entries", len(w.StreamIDs()), 400)
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
