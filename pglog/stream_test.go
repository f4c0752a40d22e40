package pglog_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/locks"
	fixtures "github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestEndToEnd has writers whose transactions overlap, two streamers of which one
// leads, simulated failures everywhere, the end of every session in between, and
// consumers in the same database and in another, which read as a user who may do
// no more than that. One has no archive to fill a gap from. All but the writers
// start before there is anything.
func TestEndToEnd(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for seed := range uint64(2) {
		s := w.streamer(func(cfg *streamer.Config) {
			cfg.BatchRecords = 20
			cfg.Hooks.AfterNumber = unilog.SimulateFailures(0.1, seed)
			cfg.Hooks.AfterAppend = unilog.SimulateFailures(0.2, seed)
		})
		w.run(s.Run)
	}
	other, reader := w.elsewhere(), w.reader()
	consumers := map[string]func(*consumer.Config){
		"here": func(*consumer.Config) {},
		"there": func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive, cfg.Log = other, nil, w.open(reader)
		},
		"there with an archive": func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive, cfg.Log = other, reader, w.open(reader)
		},
	}
	for name, change := range consumers {
		w.run(w.consumer(name, change, func(cfg *consumer.Config) {
			cfg.BatchRecords = 50
			cfg.Hooks.BeforeCommit = unilog.SimulateFailures(0.1, 3)
		}).Run)
	}

	const writers, transactions, records = 4, 60, 5
	config := w.db.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "writer"
	pool, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	defer pool.Close()
	var work sync.WaitGroup
	for writer := range writers {
		work.Go(func() {
			for n := range transactions {
				if err := w.write(pool, records, n%7 == 6); err != nil {
					t.Errorf("writer %d: %v", writer, err)
				}
			}
		})
	}
	await.True(t, "half of it to be applied", func() bool { return w.applied(w.db, "here") > writers*transactions*records/3 })
	w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
		WHERE datname = current_database() AND application_name <> 'writer' AND pid <> pg_backend_pid()`)
	w.db.Reset()
	work.Wait()

	const all = writers * (transactions - transactions/7) * records
	for name := range consumers {
		db := w.db
		if name != "here" {
			db = other
		}
		await.Equal(t, "what "+name+" has applied", all, func() int { return w.applied(db, name) })
		w.checkApplied(db, name)
	}
}

// write stages records in a transaction that is open for a while, and that may be
// rolled back in the end.
func (w *world) write(pool *pgxpool.Pool, records int, undo bool) error {
	tx, err := pool.Begin(w.ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	for n := range records {
		if err := unilog.Stage(w.ctx, tx, record(n)); err != nil {
			return err
		}
	}
	if undo {
		return nil
	}
	return tx.Commit(w.ctx)
}

// TestCommitOutOfOrder reads what a transaction staged first and committed last.
func TestCommitOutOfOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	late, err := w.db.Begin(w.ctx)
	w.must(err)
	defer func() { _ = late.Rollback(context.Background()) }()
	w.must(unilog.Stage(w.ctx, late, record(1)))
	w.stage(2, 2)
	w.drain(s)
	read := w.waiting(w.log, 1)
	w.must(late.Commit(w.ctx))
	w.drain(s)
	got := append(w.read(w.log, 0)[:1], read()...)
	w.want(got, 1, 2)
	if string(got[0].Data) != `{"n": 2}` || string(got[1].Data) != `{"n": 1}` {
		t.Errorf("read %s and %s, want them in the order of their commits", got[0].Data, got[1].Data)
	}
}

// TestRetention deletes batches of the archive, which is the log, under consumers
// that keep them there, that are past them, and that still need them from
// elsewhere.
func TestRetention(t *testing.T) {
	t.Parallel()
	w := setup(t)
	other, reader := w.elsewhere(), w.reader()
	elsewhere := func(archive *pgxpool.Pool) func(*consumer.Config) {
		log := w.open(reader)
		return func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive, cfg.Log, cfg.BatchRecords = other, archive, log, 5
		}
	}
	lagging := w.consumer("lagging", elsewhere(nil))
	ahead := w.consumer("ahead", elsewhere(nil))
	here := w.consumer("here", func(cfg *consumer.Config) { cfg.BatchRecords = 25 })
	applies := func(c *consumer.Consumer, db *pgxpool.Pool, name string, upTo int) {
		t.Helper()
		await.Equal(t, "what "+name+" has applied", upTo, func() int {
			n := w.applied(db, name)
			if n >= upTo {
				return n
			}
			if _, err := c.RunOnce(w.ctx); !fixtures.IsSlow(err) { // or it is called again
				w.must(err)
			}
			return w.applied(db, name)
		})
	}
	keeps := w.streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 10 })
	w.stage(1, 45)
	w.drain(keeps)
	keeps.Close()
	applies(lagging, other, "lagging", 5)
	applies(ahead, other, "ahead", 20)
	applies(here, w.db, "here", 25)
	stop := w.run(w.streamer(func(cfg *streamer.Config) { cfg.Retention, cfg.KeepRecords = time.Nanosecond, 1 }).Run)
	await.Equal(t, "the first offset of the archive", 21, func() int {
		return query[int](w, w.db, `SELECT min(first_offset) FROM unilog.batches`)
	})
	stop()
	w.want(w.read(w.log, 0), 21, 45)

	applies(ahead, other, "ahead", 45) // which needed nothing of what was deleted
	applies(here, w.db, "here", 45)
	for archive, pool := range map[string]*pgxpool.Pool{"no archive": nil, "an archive": reader} {
		_, err := fixtures.Bare(t, w.db).Timely(w.consumer("lagging", elsewhere(pool)).RunOnce)
		var gap *unilog.GapError
		if !errors.As(err, &gap) || gap.From != 6 || gap.To != 20 {
			t.Errorf("with %s, a consumer that needs what was deleted: %v, want a gap from 6 to 20", archive, err)
		}
	}
	if n := w.applied(other, "lagging"); n != 5 {
		t.Errorf("it has applied %d records, want the 5 before the gap", n)
	}
}

// TestNoOffsetBeforeItsPredecessor numbers a record in a transaction that stays
// open, as a leader in trouble might, and has a streamer number the next one.
func TestNoOffsetBeforeItsPredecessor(t *testing.T) {
	t.Parallel()
	w := setup(t)
	var isSlow atomic.Bool
	w.run(w.streamer(func(cfg *streamer.Config) {
		cfg.Observer.Failed = func(err error) {
			isSlow.Store(isSlow.Load() || fixtures.IsSlow(err)) // it waits in vain for a slow test
			if !isSlow.Load() {
				t.Errorf("the streamer fails: %v", err)
			}
		}
	}).Run)
	await.True(t, "the streamer to be ready to number", func() bool {
		return query[bool](w, w.db, `SELECT epoch > 0 FROM unilog.log`)
	})
	slow := w.begin()
	_, err := slow.Exec(w.ctx, locks.SQLNumbering)
	w.must(err)
	w.number(slow, 1, 1)
	read := w.waiting(w.log, 0)
	w.stage(2, 2)
	await.True(t, "the streamer to wait for it", func() bool {
		return query[bool](w, w.db, `SELECT EXISTS (SELECT FROM pg_locks
			WHERE database = (SELECT oid FROM pg_database WHERE datname = current_database())
				AND NOT granted AND locktype = 'advisory' AND classid::integer = `+locks.Staged+` AND objid = $1)`, locks.Numbering)
	})
	if got := w.read(w.log, 0); len(got) != 0 {
		t.Errorf("before any commit it read %v", got)
	}
	w.must(slow.Commit(w.ctx))
	w.want(read()[:1], 1, 1)
	await.Equal(t, "entries", 2, func() int { return len(w.read(w.log, 0)) })
	w.want(w.read(w.log, 0), 1, 2)
}

// BenchmarkConsume reads 20,000 entries and saves a checkpoint for each batch.
func BenchmarkConsume(b *testing.B) {
	w := setup(b)
	const records = 20_000
	w.stage(1, records)
	w.drain(w.streamer())
	done := make(chan struct{})
	n := 0
	c := func() *consumer.Consumer {
		return w.consumer("count", func(cfg *consumer.Config) {
			cfg.Handler = func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
				n += len(entries)
				return nil
			}
			cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) {
				if n == records {
					done <- struct{}{}
				}
			}
		})
	}
	for b.Loop() {
		n = 0
		stop := w.run(c().Run)
		<-done
		stop()
		w.exec(`UPDATE unilog.checkpoints SET "offset" = 0`)
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}
