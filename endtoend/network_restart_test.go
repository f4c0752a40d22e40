package endtoend_test

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
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
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

func startLoad(w *world.World) *load {
	w.Helper()
	l := &load{World: w, enough: make(chan struct{})}
	var err error
	l.work, err = pgxpool.NewWithConfig(w.Ctx, w.DB.Config())
	w.Must(err)
	w.Cleanup(l.work.Close)
	ctx, stop := context.WithCancel(w.Ctx)
	l.stop = stop
	for i := range 2 {
		s := w.Streamer(func(cfg *streamer.Config) {
			cfg.DB, cfg.BatchRecords, cfg.KeepRecords = l.work, 20, 1<<30 // finish looks for all of them
		})
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
		return unilog.Stage(ctx, tx, world.Record("1"), world.Record("2"))
	})
}

// goOn waits until the consumers have applied a good deal more.
func (l *load) goOn() {
	l.Helper()
	applied := func() int { return world.Query[int](l.World, `SELECT coalesce(min("offset"), 0) FROM checkpoints`) }
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
	l.WantCount("archived", world.Query[int](l.World, `SELECT count(*) FROM log_records`), records)
	l.WantCount("applied", world.Query[int](l.World, `SELECT count(*) FROM applied`), 2*records)
	l.CheckArchive()
	l.CheckLog()
	l.CheckAudit()
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
			w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				w.Must(server.Kill())
				<-server.Done()
				w.Must(lose(filepath.Join(server.Options().Dir, "data")))
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
	w := world.SetupOn(t, db, testenv.SharedRedis(t))
	w.Must(world.MigrateWorld(w.Ctx, db))
	l := startLoad(w)
	for range 2 {
		l.goOn()
		w.Must(server.Kill())
		server = testenv.Restart(t, server)
		db.Reset() // its connections are the old server's
	}
	l.goOn()
	l.finish()
}
