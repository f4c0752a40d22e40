package endtoend_test

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// load runs writers, two streamers and two consumers, on a pool of their own.
type load struct {
	*world.World
	work      *pgxpool.Pool
	processes errgroup.Group
	stop      context.CancelFunc
	writers   errgroup.Group
	enough    chan struct{}
}

// write may fail, and nobody may know whether it did: an amount and its record
// are there together or not at all.
func (l *load) write(ctx context.Context) {
	_ = pgx.BeginFunc(ctx, l.work, func(tx pgx.Tx) error {
		// Far ahead of the consumers it waits: what piles up has to be worked off.
		if _, err := tx.Exec(ctx, `
			SELECT pg_sleep(0.05) WHERE (SELECT max(id) FROM amounts) - (SELECT min("offset") FROM unilog.checkpoints) > 500`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO amounts (amount) VALUES (1), (2)`); err != nil {
			return err
		}
		return unilog.Stage(ctx, tx, world.Record("1"), world.Record("2"))
	})
}

// goOn waits until the consumers have applied a good deal more.
func (l *load) goOn() {
	l.Helper()
	applied := func() int {
		return world.Query[int](l.World, `SELECT coalesce(min("offset"), 0) FROM unilog.checkpoints`)
	}
	before := applied()
	l.Await("the consumers to apply a hundred more", func() string {
		if now := applied(); now < before+100 {
			return fmt.Sprintf("they have come from %d to %d", before, now)
		}
		return ""
	})
}

// finish lets the processes come to rest and checks what came out.
func (l *load) finish() {
	l.Helper()
	close(l.enough)
	l.Ended("the writers", &l.writers)
	total := world.Query[string](l.World, `SELECT sum(amount)::text FROM amounts`)
	l.AwaitTotal("sum0", total)
	l.AwaitTotal("sum1", total)
	records := world.Query[int](l.World, `SELECT count(*) FROM amounts`)
	l.AwaitEntries(records)
	l.stop()
	l.Ended("the processes", &l.processes)
	l.WantCount("archived", world.Query[int](l.World, `SELECT count(*) FROM unilog.records`), records)
	l.WantCount("applied", world.Query[int](l.World, `SELECT count(*) FROM applied`), 2*records)
	l.CheckArchive()
	l.CheckLog()
	l.CheckAudit()
}

func startLoad(w *world.World, change ...func(*streamer.Config)) *load {
	w.Helper()
	l := &load{World: w, enough: make(chan struct{})}
	var err error
	l.work, err = pgxpool.NewWithConfig(w.Ctx, w.DB.Config())
	w.Must(err)
	w.Cleanup(l.work.Close)
	ctx, stop := context.WithCancel(w.Ctx)
	l.stop = stop
	for i := range 2 {
		s := w.Streamer(append([]func(*streamer.Config){func(cfg *streamer.Config) {
			cfg.DB, cfg.BatchRecords, cfg.KeepRecords = l.work, 20, 1<<30 // finish looks for all of them
		}}, change...)...)
		c := w.Consumer(fmt.Sprint("sum", i), func(cfg *consumer.Config) {
			cfg.DB, cfg.Archive, cfg.BatchRecords = l.work, l.work, 20
		})
		l.processes.Go(func() error { return s.Run(ctx) })
		l.processes.Go(func() error { return c.Run(ctx) })
		l.writers.Go(func() error {
			for ctx.Err() == nil && !world.Happened(l.enough) {
				l.write(ctx)
			}
			return nil
		})
	}
	w.Cleanup(func() { // before the streamers resign, also when the test has failed
		stop()
		_ = l.writers.Wait()
		_ = l.processes.Wait()
	})
	return l
}

// reconnect lets the test's own client notice that it has lost its connection.
func reconnect(w *world.World) {
	w.Helper()
	w.Await("Redis to answer", func() string {
		err := w.Redis.Do(w.Ctx, w.Redis.B().Ping().Build()).Error()
		if _, answered := rueidis.IsRedisErr(err); err == nil || answered {
			return ""
		}
		return err.Error()
	})
}
