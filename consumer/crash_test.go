package consumer_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

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

// TestCommitsWaitForTheDisk sees that they do so unless the archive is in the
// same database, or the handler wants it.
func TestCommitsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	elsewhere := *w
	elsewhere.DB = testenv.Database(t, "world", world.MigrateWorld)
	for name, test := range map[string]struct {
		change func(cfg *consumer.Config)
		before string
		want   string
	}{
		"the same database":         {func(*consumer.Config) {}, ``, "off"},
		"as the handler wants":      {func(*consumer.Config) {}, `SET LOCAL synchronous_commit = on`, "on"},
		"no archive":                {func(cfg *consumer.Config) { cfg.Archive = nil }, ``, "on"},
		"an archive somewhere else": {func(cfg *consumer.Config) { cfg.DB = elsewhere.DB }, ``, "on"},
	} {
		got := ""
		c := w.Consumer(name, test.change, func(cfg *consumer.Config) {
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
				if _, err := tx.Exec(ctx, test.before); err != nil {
					return err
				}
				return tx.QueryRow(ctx, `SHOW synchronous_commit`).Scan(&got)
			}
		})
		if w.Consume(c); got != test.want {
			t.Errorf("%s: synchronous_commit is %s, want %s", name, got, test.want)
		}
	}
	w.Exec(`TRUNCATE checkpoints`) // these add nothing up
}
