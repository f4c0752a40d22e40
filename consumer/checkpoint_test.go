package consumer_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

func TestConsumerAheadOfItsSource(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(3)
	w.Drain(w.Streamer())
	c := w.Consumer("sum")
	w.Consume(c)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 10`)
	var ahead *unilog.CheckpointAheadError
	if err := w.EndOf(w.Ctx, w.Consumer("sum").Run); !errors.As(err, &ahead) || ahead.Checkpoint != 10 || ahead.Database != 3 {
		t.Errorf("Run returned %v, want it to be at 10, ahead of 3", err)
	}
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 3`)
}

// TestArchiveThatLags has an archive that is a moment behind: a second database.
func TestArchiveThatLags(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	lagging := *w
	lagging.DB = testenv.Database(t, "world", world.MigrateWorld)
	archiveAt := func(n int) {
		lagging.Exec(`UPDATE unilog.partitions SET next_offset = $1 + 1, published_offset = $1`, n)
	}
	lagging.Exec(`UPDATE unilog.log SET log_id = $1::text::uuid`, world.Query[string](w, `SELECT log_id::text FROM unilog.log`))
	w.Publish(5)
	archiveAt(5)
	errs := make(chan error, 1000)
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Archive = lagging.DB
		cfg.Observer.Failed = func(err error) {
			select {
			case errs <- err:
			default:
			}
		}
	})
	stop := w.Consumes(c)
	w.AwaitTotal("sum", "5")
	w.Publish(4)
	w.AwaitTotal("sum", "9")
	var lags *unilog.ArchiveLagsError
	if err := await.Receive(t, "the consumer to see that its archive lags", errs); !errors.As(err, &lags) {
		t.Errorf("it fails with %v", err)
	}
	await.True(t, "that it is not ready", func() bool { return errors.As(c.Ready(), &lags) })
	w.WantReady(c.Ready, "waiting until it has that")
	archiveAt(9)
	await.True(t, "that it is ready", func() bool { return c.Ready() == nil })
	w.Publish(1)
	archiveAt(10)
	w.AwaitTotal("sum", "10")
	stop()
}

// TestReadOnlyArchiveIsWaitedFor has an archive that is behind and takes no writes, as a
// standby that lags, or the old primary of a switchover: nobody is told to delete or restore
// anything, and the address is tried anew.
func TestReadOnlyArchiveIsWaitedFor(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	old := *w
	old.DB = testenv.Database(t, "world", world.MigrateWorld)
	old.Exec(`UPDATE unilog.log SET log_id = $1::text::uuid`, world.Query[string](w, `SELECT log_id::text FROM unilog.log`))
	old.Exec(`UPDATE unilog.partitions SET next_offset = 6, published_offset = 5`)
	old.Exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database()); END $$`)
	old.DB.Reset()
	w.Publish(9)
	for name, checkpoint := range map[string]int64{"the log is ahead": 5, "the checkpoint is, and the log has lost that": 20} {
		w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ($1, 0, $2)`, name, checkpoint)
		c := w.Consumer(name, func(cfg *consumer.Config) { cfg.Archive = old.DB })
		before := world.Query[int](&old, `SELECT pg_backend_pid()`)
		var lags *unilog.ArchiveLagsError
		if n, err := c.RunOnce(w.Ctx); n != 0 || !errors.As(err, &lags) || !lags.ReadOnly || lags.Archive != 5 || strings.Contains(err.Error(), "restore") {
			t.Errorf("%s: the consumer applied %d and says %v", name, n, err)
		}
		if world.Query[int](&old, `SELECT pg_backend_pid()`) == before {
			t.Errorf("%s: the open connection is still used", name)
		}
	}
	w.Exec(`DELETE FROM unilog.checkpoints`)
}

// TestConsumerThatOverslept wakes an instance up when another one has applied
// what it was about to, and all of that is gone.
func TestConsumerThatOverslept(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	frozen := w.Consumer("sum")
	w.Consume(frozen)
	w.CommitMany(20)
	w.Drain(s)
	w.Consume(w.Consumer("sum"))
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")
	w.LoseArchive(0, 15)
	w.WantCount("applied by the one that overslept", w.Repeat(frozen.RunQuiet), 0)
	w.Commit("1")
	w.Drain(s)
	w.WantCount("applied by it then", w.Repeat(frozen.RunQuiet), 1)
	w.WantTotal("sum", "21")
}

// TestCommitsThatACrashUndoes kills Postgres when a consumer, which then has
// nothing to do, has committed and the log is trimmed, until such a commit was
// not on disk.
func TestCommitsThatACrashUndoes(t *testing.T) {
	t.Parallel()
	w, server := world.SetupOwn(t)
	w.Exec(`ALTER SYSTEM SET wal_writer_delay = '10s'`) // what is not synced stays in memory
	w.Exec(`SELECT pg_reload_conf()`)
	var last, undone atomic.Int64
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
			if entries[0].Offset <= last.Load() {
				undone.Add(1)
			}
			last.Store(entries[len(entries)-1].Offset)
		}
	})
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var running errgroup.Group
	running.Go(func() error { return c.Run(ctx) })
	records := 0
	for began := time.Now(); undone.Load() == 0; {
		if time.Since(began) > await.Patience {
			t.Fatalf("no crash has undone a commit of %d records", records)
		}
		w.Commit("1", "2")
		w.StreamAll()
		records += 2
		await.Equal(t, "the last offset applied", int64(records), last.Load)
		w.Command("XTRIM", w.Stream, "MAXLEN", "0") // as the streamer may, by the checkpoint
		w.Must(server.Kill())
		server = testenv.Restart(t, server)
		w.DB.Reset()
		w.CheckAudit()
		w.StreamAll() // that the log has it may not have been on disk either
		await.Equal(t, "the checkpoint", int64(records), func() int64 { return checkpoint(w, "sum") })
	}
	stop()
	w.Must(running.Wait())
	w.WantCount("applied", world.Query[int](w, `SELECT count(*) FROM applied`), records)
	w.CheckAudit()
}

func TestConsumerShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	c := w.Consumer("sum")
	w.Consume(c)
	c.BeSilentFor(-time.Hour) // however slow this is, it is not due
	w.Exec(`UPDATE unilog.checkpoints SET updated_at = 'epoch'`)
	silent := func() bool { return world.Query[bool](w, `SELECT updated_at = 'epoch' FROM unilog.checkpoints`) }
	if w.Consume(c); !silent() {
		t.Error("it wrote although it was not due")
	}
	c.BeSilentFor(2 * time.Hour)
	holder := w.Begin() // another instance at work
	_, err := holder.Exec(w.Ctx, `SELECT FROM unilog.checkpoints FOR UPDATE`)
	w.Must(err)
	if w.Consume(c); !silent() {
		t.Error("it wrote although another instance holds the row")
	}
	w.Must(holder.Rollback(w.Ctx))
	c.BeSilentFor(time.Hour)
	if w.Consume(c); silent() {
		t.Error("it is silent although it was due")
	}
}

// TestConsumerThatCannotReadShowsThatItIsAlive lets the log fail, with and without an
// archive that says so, and the archive.
func TestConsumerThatCannotReadShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*consumer.Config){
		"with an archive":    func(*consumer.Config) {},
		"without an archive": func(cfg *consumer.Config) { cfg.Archive = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Consume(w.Consumer("sum", change))
			deaf := func(cfg *consumer.Config) { cfg.Log = deafLog{cfg.Log} }
			alive := func() bool { return world.Query[bool](w, `SELECT updated_at > 'epoch' FROM unilog.checkpoints`) }
			w.Exec(`UPDATE unilog.checkpoints SET updated_at = 'epoch'`)
			if n, err := w.Consumer("sum", change, deaf).RunOnce(w.Ctx); err == nil {
				t.Fatalf("it applied %d", n)
			}
			if !alive() {
				t.Error("RunOnce does not show that it is alive")
			}
			w.Exec(`UPDATE unilog.checkpoints SET updated_at = 'epoch'`)
			c := w.Consumer("sum", change, deaf)
			stop := w.Consumes(c)
			await.True(t, "the consumer to show that it is alive", alive)
			await.True(t, "that it is not ready", func() bool { return c.Ready() != nil })
			stop()
		})
	}
}

// deafLog answers nothing.
type deafLog struct{ unilog.Log }

func (deafLog) Head(context.Context, int) (unilog.Head, error) { return unilog.Head{}, errDeaf }

func (deafLog) Read(context.Context, int, unilog.Cursor, int, time.Duration) ([]unilog.Entry, error) {
	return nil, errDeaf
}

// TestConsumerRegistersForAllPartitions has another process read all of them, as far
// as it gets.
func TestConsumerRegistersForAllPartitions(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*consumer.Config){
		"known from the archive": func(*consumer.Config) {},
		"known from the log":     func(cfg *consumer.Config) { cfg.Archive = nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := world.SetupPartitionsOnRedis(t, 4)
			p.FreezeClock()
			p.Exec(`INSERT INTO unilog.members (name, member) VALUES ('sum', '0'), ('sum', '1'), ('sum', '2'), ('sum', '3')`)
			p.Exec(`INSERT INTO unilog.leases SELECT 'sum', n, n::text FROM generate_series(0, 3) AS n`)
			m := p.Run(change)
			m.AwaitReads()
			p.WantCount("partitions", world.Query[int](p.World, `SELECT count(*) FROM unilog.checkpoints WHERE name = 'sum'`), 4)
			p.Grow(6)
			world.AwaitQuery(p.World, "the number of partitions", 6, `SELECT count(*)::int FROM unilog.checkpoints WHERE name = 'sum'`)
			m.Stop()
		})
	}
}

// TestConsumerRefusesADeliverersName sees that it leaves a deliverer's checkpoint
// alone.
func TestConsumerRefusesADeliverersName(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(2)
	var outside world.Arrivals
	w.WantCount("delivered", w.Repeat(w.Deliverer(outside.Deliver).RunOnce), 2)
	w.Publish(2)
	c := w.Consumer("hook")
	if err := w.EndOf(w.Ctx, c.Run); !errors.Is(err, unilog.ErrDeliverersName) {
		t.Errorf("Run returned %v", err)
	}
	w.WantCount("delivered", w.Repeat(w.Deliverer(outside.Deliver).RunOnce), 2)
	w.WantTotal("hook", "0")
}

// A consumer whose checkpoint goes while it runs does not begin anew, nor does another
// process of it that has run: its state has all of that already.
func TestCheckpointThatGoes(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	ended := make(chan error, 2)
	all := []*consumer.Consumer{w.Consumer("sum"), w.Consumer("sum")}
	for _, c := range all {
		w.Consume(c) // it knows the checkpoint, however late its first call in Run is answered
		go func() { ended <- c.Run(ctx) }()
	}
	w.AwaitTrue("both to share the work", `SELECT count(*) = 2 FROM unilog.members`)
	w.Publish(1)
	w.AwaitTotal("sum", "4")
	w.Exec(`TRUNCATE unilog.checkpoints`)
	w.Publish(1)
	for range all {
		if err := world.Receive(w, "a process to end", ended); !errors.Is(err, unilog.ErrCheckpointGone) {
			t.Errorf("Run returned %v", err)
		}
	}
	if err := w.EndOf(w.Ctx, all[0].Run); !errors.Is(err, unilog.ErrCheckpointGone) {
		t.Errorf("once more, Run returned %v", err)
	}
	w.WantTotal("sum", "4")
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('sum', 0, 4)`) // as a restore would
	w.Consume(w.Consumer("sum"))
}

// TestConsumerForgetsWhatAFailureOutlives replaces the log, by that of a restored
// source, while the first batch fails.
func TestConsumerForgetsWhatAFailureOutlives(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	log := logtest.NewMemory()
	_, err := log.Claim(w.Ctx, unilog.Term{Partitions: 1, LogID: "ours", Epoch: 1})
	w.Must(err)
	log.Put(unilog.Entry{Record: world.Record("1"), Offset: 1})
	fails := true
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Log, cfg.Archive = log, nil
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
			if fails {
				return unilog.ErrSimulated
			}
			return nil
		}
	})
	if _, err := c.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("it says %v", err)
	}
	log.Put(unilog.Entry{Record: world.Record("10"), Offset: 1})
	fails = false
	w.WantCount("applied", w.Consume(c), 1)
	w.WantTotal("sum", "10")
	w.Exec(`DELETE FROM sums; DELETE FROM unilog.checkpoints`) // the audit knows nothing of this log
}
