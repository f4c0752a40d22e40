package endtoend_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

// TestFewConnections has a streamer lead eight partitions of a log in Postgres with the three
// connections that its role may have, and then a consumer beside it with two more: who needs
// one waits, and nobody steps down.
func TestFewConnections(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(8, 1)
	limited := limitedRole(w)
	limited(3)
	config := w.DB.Config()
	config.ConnConfig.User = config.ConnConfig.Database + "_few"
	config.MaxConns = 2 // a pool keeps what it once had: one is left for the other process
	pool := func() *pgxpool.Pool {
		db, err := pgxpool.NewWithConfig(w.Ctx, config)
		w.Must(err)
		testenv.ClosePool(t, db)
		return db
	}
	ctx, stop := context.WithCancel(w.Ctx)
	t.Cleanup(stop)
	var processes errgroup.Group
	var failed atomic.Pointer[error]
	streams := w.Streamer(func(cfg *streamer.Config) {
		cfg.DB = pool()
		log, err := pglog.Open(w.Ctx, cfg.DB, "")
		w.Must(err)
		t.Cleanup(log.Close)
		cfg.Log = log
		cfg.Observer.Failed = func(err error) {
			if !errors.Is(err, context.DeadlineExceeded) { // a call may take too long
				failed.Store(&err)
			}
		}
	})
	processes.Go(func() error { return streams.Run(ctx) })
	for range 10 {
		w.CommitKeyed(1, 1, world.Keys(20)...)
	}
	w.AwaitTrue("all to be published", `SELECT sum(published_offset) >= 200 AND sum(published_offset) = sum(next_offset - 1) FROM unilog.partitions`)
	if err := failed.Load(); err != nil {
		t.Errorf("the streamer has failed: %v", *err)
	}

	limited(5)
	db := pool()
	log, err := pglog.Open(w.Ctx, db, "")
	w.Must(err)
	t.Cleanup(log.Close)
	consumes := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.DB, cfg.Archive, cfg.Log = db, db, log
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			_, err := tx.Exec(ctx, `INSERT INTO sums (name, total) VALUES ('sum', $1) ON CONFLICT (name) DO UPDATE SET total = sums.total + excluded.total`, len(entries))
			return err
		}
		cfg.Observer.Failed = func(err error) {
			if strings.Contains(err.Error(), "too many connections for role") && !strings.Contains(err.Error(), "raise max_connections, or the CONNECTION LIMIT") {
				t.Errorf("it does not say what to set: %v", err)
			}
		}
	})
	processes.Go(func() error { return consumes.Run(ctx) })
	w.CommitKeyed(1, 1, world.Keys(20)...)
	w.AwaitTrue("all to be applied", `
		SELECT coalesce(sum(c."offset") >= 220 AND sum(c."offset") = sum(next_offset - 1), false) FROM unilog.checkpoints AS c JOIN unilog.partitions USING (partition)`)
	stop()
	w.Ended("the processes", &processes)
}

// limitedRole makes a role that may do what processes do, and returns what sets how many
// connections it may have.
func limitedRole(w *world.World) (limited func(connections int)) {
	role := w.DB.Config().ConnConfig.Database + "_few"
	w.Exec(`CREATE ROLE ` + role + ` LOGIN IN ROLE pg_read_all_data, pg_write_all_data`)
	w.Cleanup(func() {
		_, err := w.DB.Exec(context.Background(), `DROP ROLE `+role)
		w.Must(err)
	})
	return func(connections int) {
		w.Helper()
		w.Exec(fmt.Sprintf(`ALTER ROLE %s CONNECTION LIMIT %d`, role, connections))
	}
}
