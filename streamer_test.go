package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

func TestStreamerMovesRecordsToTheLog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.wantCount("published of nothing", w.drain(s), 0)
	w.commit("1", "2")
	w.commit("3")
	w.wantCount("published", w.drain(s), 3)
	w.wantCount("staged rows left", query[int](w, `SELECT count(*) FROM staged_log_records`), 0)
	if ids := strings.Join(w.streamIDs(), " "); ids != "1-0 2-0 3-0" {
		t.Errorf("the stream holds %s", ids)
	}
	if published := query[int64](w, `SELECT published_offset FROM log_partitions`); published != 3 {
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
		hook    func(h *unilog.StreamerHooks, crashed *bool)
		entries int // in the stream when it crashes
	}{
		"after numbering":         {func(h *unilog.StreamerHooks, crashed *bool) { h.AfterNumber = crashOnce(crashed) }, 0},
		"in the middle of append": {func(h *unilog.StreamerHooks, crashed *bool) { h.MidAppend = crashOnce(crashed) }, 2},
		"after the append":        {func(h *unilog.StreamerHooks, crashed *bool) { h.AfterAppend = crashOnce(crashed) }, 5},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			crashed := false
			s := w.streamer(func(cfg *unilog.StreamerConfig) {
				*cfg = unilog.WithAppendRecords(*cfg, 2)
				c.hook(&cfg.Hooks, &crashed)
			})
			w.commit("1", "2", "3", "4", "5")
			if _, err := s.RunOnce(w.ctx); !errors.Is(err, unilog.ErrSimulated) || s.Leads() {
				t.Fatalf("the crash gave %v, and the streamer leads: %v", err, s.Leads())
			}
			w.wantCount("stream entries at the crash", len(w.streamIDs()), c.entries)
			w.drain(w.streamer()) // another process
			w.wantCount("stream entries", len(w.streamIDs()), 5)
			w.consume(w.consumer("sum"))
			w.wantTotal("sum", "15")
		})
	}
}

func TestOneStreamerLeads(t *testing.T) {
	t.Parallel()
	w := setup(t)
	first, second := w.streamer(), w.streamer()
	w.commit("1")
	w.drain(first)
	if _, err := second.RunOnce(w.ctx); !errors.Is(err, unilog.ErrStandby) {
		t.Fatalf("the second streamer says %v, want ErrStandby", err)
	}
	epoch := first.Term().Epoch
	first.Close()
	w.commit("2")
	w.wantCount("published by the second", w.drain(second), 1)
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
			w := setup(t)
			successor := w.streamer()
			takeOver := func(context.Context, []unilog.Entry) error {
				// The lock goes, the session stays: the worst case.
				w.exec(`UPDATE log_partitions SET epoch = epoch + 1`)
				epoch := query[int64](w, `SELECT epoch FROM log_partitions`)
				head, err := w.log.Head(w.ctx, 0)
				w.must(err)
				if head.Offset > 0 { // the successor has announced itself to the log, too
					w.command("HSET", "{"+w.stream+"}:leader", "epoch", fmt.Sprint(epoch))
				}
				return nil
			}
			zombie := w.streamer(func(cfg *unilog.StreamerConfig) {
				*cfg = unilog.WithAppendRecords(*cfg, 2)
				switch where {
				case "after numbering":
					cfg.Hooks.AfterNumber = takeOver
				case "in the middle of append":
					cfg.Hooks.MidAppend = takeOver
				case "after the append":
					cfg.Hooks.AfterAppend = takeOver
				}
			})
			_, err := zombie.RunOnce(w.ctx) // leads
			w.must(err)
			w.commit("1", "2", "3")
			if where == "before it numbers" {
				w.must(takeOver(w.ctx, nil))
			}
			var fenced *unilog.FencedError
			for err = nil; err == nil; {
				_, err = zombie.RunOnce(w.ctx)
			}
			if !errors.As(err, &fenced) || zombie.Leads() {
				t.Errorf("the zombie says %v, and leads: %v", err, zombie.Leads())
			}
			if published := query[int64](w, `SELECT published_offset FROM log_partitions`); published != 0 {
				t.Errorf("the zombie recorded %d as published", published)
			}
			w.drain(successor)
			w.wantCount("stream entries", len(w.streamIDs()), 3)
		})
	}
}

func TestStreamerRefusesALogThatIsAhead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(10)
	s := w.streamer()
	w.drain(s)
	s.Close()
	w.exec(`DELETE FROM log_records WHERE "offset" > 5`) // as a restore would
	w.exec(`UPDATE log_partitions SET next_offset = 6, published_offset = 5`)
	var ahead *unilog.LogAheadError
	if err := w.streamer().Run(w.ctx); !errors.As(err, &ahead) || ahead.Log != 10 || ahead.Database != 5 {
		t.Fatalf("the streamer says %v, want the heads 10 and 5", err)
	}
	// The way out that the message gives.
	w.command("DEL", w.stream)
	w.exec(`DELETE FROM amounts WHERE id > 5`)
	w.drain(w.streamer())
	w.wantCount("stream entries", len(w.streamIDs()), 5)
}

func TestStreamerRefusesALogThatHasDiverged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.commitMany(5)
	w.drain(s)
	// The database forgets two commits, which the log has, and makes others.
	w.exec(`DELETE FROM log_records WHERE "offset" > 3`)
	w.exec(`UPDATE log_partitions SET next_offset = 4, published_offset = 3`)
	w.exec(`DELETE FROM amounts WHERE id > 3`)
	w.commitMany(5)
	_, err := s.RunOnce(w.ctx)
	var diverged *unilog.DivergedError
	if !errors.As(err, &diverged) || diverged.Offset != 5 {
		t.Fatalf("the streamer says %v, want another record at offset 5", err)
	}
	w.command("DEL", w.stream)
	w.drain(s)
	w.wantCount("stream entries", len(w.streamIDs()), 8)
}

func TestFrozenLeaderLosesTheLead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	frozen := w.streamer(short)
	w.commit("1")
	w.attempt("the leader to publish", func(ctx context.Context) (bool, error) {
		_, err := frozen.RunOnce(ctx)
		return err == nil, err
	})
	epoch := frozen.Term().Epoch
	// It does nothing any more, and its connection stays open.
	next := w.streamer()
	w.awaitLead(next)
	w.commit("2")
	w.drain(next)
	// The log refuses it even before it has heard of the loss of its session.
	var fenced *unilog.FencedError
	if _, err := w.log.Claim(w.ctx, unilog.Term{LogID: next.Term().LogID, Epoch: epoch}); !errors.As(err, &fenced) {
		t.Errorf("the log says %v to the frozen leader's term", err)
	}
	if _, err := frozen.RunOnce(w.ctx); err == nil {
		t.Error("the frozen leader wakes up and leads")
	}
}

func TestStreamerWithoutConsumersInItsDatabase(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`ALTER TABLE checkpoints RENAME TO elsewhere`)
	s := w.streamer()
	w.commitMany(10)
	w.wantCount("published", w.drain(s), 10)
	w.must(s.Upkeep(w.ctx))
	w.exec(`ALTER TABLE elsewhere RENAME TO checkpoints`)
}

func TestFailedUpkeepDoesNotStopThePublishing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(*cfg, 100)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
	})
	w.commitMany(150)
	w.drain(s)
	w.exec(`CREATE VIEW report AS SELECT * FROM log_records_p0_1_to_100`) // so it cannot be dropped
	w.exec(`CREATE TABLE log_records_old PARTITION OF log_records FOR VALUES FROM (7, 1) TO (7, 2)`)
	w.must(s.Upkeep(w.ctx))
	w.commitMany(150)
	w.wantCount("published", w.drain(s), 150)
	w.exec(`DROP VIEW report`)
	w.must(s.Upkeep(w.ctx))
	w.wantCount("archived", query[int](w, `SELECT count(*) FROM log_records`), 100)
}

func TestStreamerRefusesALogOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	w, other := setup(t), setup(t)
	other.exec(`UPDATE log_partitions SET log_id = gen_random_uuid()`) // both are copies of one
	s := w.streamer()
	w.commit("1")
	w.drain(s)
	var foreign *unilog.ForeignLogError
	err := other.streamer(func(cfg *unilog.StreamerConfig) { cfg.Log = w.log }).Run(w.ctx)
	if !errors.As(err, &foreign) {
		t.Errorf("a streamer of another database says %v", err)
	}
	w.commit("2")
	w.wantCount("published as if nothing had been", w.drain(s), 1)
}

func TestStreamerRunsWithWritersAndConsumers(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, stop := context.WithCancel(w.ctx)
	var processes, writers errgroup.Group
	for i := range 2 {
		s := w.streamer(func(cfg *unilog.StreamerConfig) {
			cfg.Hooks.AfterAppend = unilog.SimulateFailures(0.2, uint64(i))
		})
		processes.Go(func() error { return s.Run(ctx) })
		c := w.consumer(fmt.Sprint("sum", i), func(cfg *unilog.ConsumerConfig) {
			cfg.Hooks.BeforeCommit = unilog.SimulateFailures(0.2, uint64(i))
		})
		processes.Go(func() error { return c.Run(ctx) })
	}
	for range 4 {
		writers.Go(func() error {
			for range 50 {
				w.commit("1", "2")
			}
			return nil
		})
	}
	w.ended("the writers", &writers)
	w.awaitTotal("sum0", "600")
	w.awaitTotal("sum1", "600")
	stop()
	w.ended("the processes", &processes)
	w.wantCount("stream entries", len(w.streamIDs()), 400)
}

func TestStreamerConfig(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for field, break_ := range map[string]func(c *unilog.StreamerConfig){
		"DB":             func(c *unilog.StreamerConfig) { c.DB = nil },
		"Log":            func(c *unilog.StreamerConfig) { c.Log = nil },
		"BatchRecords":   func(c *unilog.StreamerConfig) { c.BatchRecords = 100_001 },
		"KeepRecords":    func(c *unilog.StreamerConfig) { c.KeepRecords = -1 },
		"Retention":      func(c *unilog.StreamerConfig) { c.Retention = -1 },
		"ConsumerExpiry": func(c *unilog.StreamerConfig) { c.ConsumerExpiry = time.Second },
	} {
		cfg := unilog.StreamerConfig{DB: w.db, Log: w.log}
		break_(&cfg)
		if _, err := unilog.NewStreamer(cfg); err == nil || !strings.Contains(err.Error(), "StreamerConfig."+field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
}
