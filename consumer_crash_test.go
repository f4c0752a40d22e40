package unilog_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestCommitsThatACrashUndoes kills Postgres when a consumer, which then has
// nothing to do, has committed and the log is trimmed, until such a commit was
// not on disk.
func TestCommitsThatACrashUndoes(t *testing.T) {
	t.Parallel()
	w, server := setupOwn(t)
	w.exec(`ALTER SYSTEM SET wal_writer_delay = '10s'`) // what is not synced stays in memory
	w.exec(`SELECT pg_reload_conf()`)
	var last, undone atomic.Int64
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
			if entries[0].Offset <= last.Load() {
				undone.Add(1)
			}
			last.Store(entries[len(entries)-1].Offset)
		}
	})
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var running errgroup.Group
	running.Go(func() error { return c.Run(ctx) })
	records := 0
	for began := time.Now(); undone.Load() == 0; {
		if time.Since(began) > await.Patience {
			t.Fatalf("no crash has undone a commit of %d records", records)
		}
		w.commit("1", "2")
		w.streamAll()
		records += 2
		await.Equal(t, "the last offset applied", int64(records), last.Load)
		w.command("XTRIM", w.stream, "MAXLEN", "0") // as the streamer may, by the checkpoint
		w.must(server.Kill())
		server = testenv.Restart(t, server)
		w.db.Reset()
		w.checkAudit()
		w.streamAll() // that the log has it may not have been on disk either
		await.Equal(t, "the checkpoint", int64(records), func() int64 { return checkpoint(w, "sum") })
	}
	stop()
	w.must(running.Wait())
	w.wantCount("applied", query[int](w, `SELECT count(*) FROM applied`), records)
	w.checkAudit()
}

// TestCommitsWaitForTheDisk sees that they do so unless the archive is in the
// same database, or the handler wants it.
func TestCommitsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1")
	w.drain(w.streamer())
	elsewhere := *w
	elsewhere.db = testenv.Database(t, "world", migrateWorld)
	for name, test := range map[string]struct {
		change func(cfg *unilog.ConsumerConfig)
		before string
		want   string
	}{
		"the same database":         {func(*unilog.ConsumerConfig) {}, ``, "off"},
		"as the handler wants":      {func(*unilog.ConsumerConfig) {}, `SET LOCAL synchronous_commit = on`, "on"},
		"no archive":                {func(cfg *unilog.ConsumerConfig) { cfg.Archive = nil }, ``, "on"},
		"an archive somewhere else": {func(cfg *unilog.ConsumerConfig) { cfg.DB = elsewhere.db }, ``, "on"},
	} {
		got := ""
		c := w.consumer(name, test.change, func(cfg *unilog.ConsumerConfig) {
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
				if _, err := tx.Exec(ctx, test.before); err != nil {
					return err
				}
				return tx.QueryRow(ctx, `SHOW synchronous_commit`).Scan(&got)
			}
		})
		if w.consume(c); got != test.want {
			t.Errorf("%s: synchronous_commit is %s, want %s", name, got, test.want)
		}
	}
	w.exec(`TRUNCATE checkpoints`) // these add nothing up
}
