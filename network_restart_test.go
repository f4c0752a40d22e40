package unilog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

// load runs writers, two streamers and two consumers, on a pool of their own.
type load struct {
	*world
	work      *pgxpool.Pool
	processes errgroup.Group
	stop      context.CancelFunc
	writers   errgroup.Group
	enough    chan struct{}
}

func startLoad(w *world) *load {
	w.Helper()
	l := &load{world: w, enough: make(chan struct{})}
	var err error
	l.work, err = pgxpool.NewWithConfig(w.ctx, w.db.Config())
	w.must(err)
	w.Cleanup(l.work.Close)
	ctx, stop := context.WithCancel(w.ctx)
	l.stop = stop
	for i := range 2 {
		s := w.streamer(func(cfg *unilog.StreamerConfig) {
			cfg.DB, cfg.BatchRecords, cfg.KeepRecords = l.work, 20, 1<<30 // finish looks for all of them
		})
		c := w.consumer(fmt.Sprint("sum", i), func(cfg *unilog.ConsumerConfig) {
			cfg.DB, cfg.Archive, cfg.BatchRecords = l.work, l.work, 20
		})
		l.processes.Go(func() error { return s.Run(ctx) })
		l.processes.Go(func() error { return c.Run(ctx) })
		l.writers.Go(func() error {
			for ctx.Err() == nil && !happened(l.enough) {
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

// write may fail, and nobody may know whether it did: an amount and its record
// are there together or not at all.
func (l *load) write(ctx context.Context) {
	_ = pgx.BeginFunc(ctx, l.work, func(tx pgx.Tx) error {
		// Far ahead of the consumers it waits: what piles up has to be worked off.
		if _, err := tx.Exec(ctx, `
			SELECT pg_sleep(0.05) WHERE (SELECT max(id) FROM amounts) - (SELECT min("offset") FROM checkpoints) > 500`); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `INSERT INTO amounts (amount) VALUES (1), (2)`); err != nil {
			return err
		}
		return unilog.Stage(ctx, tx, record("1"), record("2"))
	})
}

// goOn waits until the consumers have applied a good deal more.
func (l *load) goOn() {
	l.Helper()
	applied := func() int { return query[int](l.world, `SELECT coalesce(min("offset"), 0) FROM checkpoints`) }
	before := applied()
	l.await("the consumers to apply a hundred more", func() string {
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
	l.ended("the writers", &l.writers)
	total := query[string](l.world, `SELECT sum(amount)::text FROM amounts`)
	l.awaitTotal("sum0", total)
	l.awaitTotal("sum1", total)
	records := query[int](l.world, `SELECT count(*) FROM amounts`)
	l.awaitEntries(records)
	l.stop()
	l.ended("the processes", &l.processes)
	l.wantCount("archived", query[int](l.world, `SELECT count(*) FROM log_records`), records)
	l.wantCount("applied", query[int](l.world, `SELECT count(*) FROM applied`), 2*records)
	l.checkArchive()
	l.checkStream()
	l.checkAudit()
}

func TestRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(dir string) error{
		"and keeps everything": func(string) error { return nil },
		"and loses everything": os.RemoveAll,
		"and loses the newest": loseHalf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			w := setupOn(t, testenv.Database(t, "world", migrateWorld), server.URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				w.must(server.Kill())
				<-server.Done()
				w.must(lose(filepath.Join(server.Options().Dir, "data")))
				server = testenv.Restart(t, server)
				// The test's own client has to notice, too.
				reconnect(w)
			}
			l.goOn()
			l.finish()
		})
	}
}

// loseHalf cuts off the end of what Redis has written to disk.
func loseHalf(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		files = []string{filepath.Join(dir, "appendonly.aof")} // before Redis 7
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if err := os.Truncate(file, info.Size()/2); err != nil {
			return err
		}
	}
	return nil
}

func TestPostgresKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	db, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	w := setupOn(t, db, testenv.SharedRedis(t))
	w.must(migrateWorld(w.ctx, db))
	l := startLoad(w)
	for range 2 {
		l.goOn()
		w.must(server.Kill())
		server = testenv.Restart(t, server)
		db.Reset() // its connections are the old server's
	}
	l.goOn()
	l.finish()
}
