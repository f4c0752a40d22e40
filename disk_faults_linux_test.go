package unilog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
)

// TestDiskFull puts /dev/full, of which Linux says that no space is left on it,
// in the place of the file of a table that a process writes to.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		table string
		try   func(w *world) error
	}{
		"writer": {"staged_log_records", func(w *world) error {
			return pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
				if _, err := tx.Exec(w.ctx, `INSERT INTO amounts (amount) VALUES (1)`); err != nil {
					return err
				}
				return unilog.Stage(w.ctx, tx, record("1"))
			})
		}},
		"streamer": {"log_records_p0_1_to_1000000", func(w *world) error {
			w.commit("1")
			_, err := w.streamer().RunOnce(w.ctx)
			return err
		}},
		"consumer": {"applied", func(w *world) error {
			w.commit("1")
			w.streamAll()
			_, err := w.consumer("sum").RunOnce(w.ctx)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.streamAll() // makes the archive's first chunk
			file := filepath.Join(query[string](w, `SELECT current_setting('data_directory')`),
				query[string](w, `SELECT pg_relation_filepath($1)`, c.table))
			w.must(os.Rename(file, file+".kept"))
			w.must(os.Symlink("/dev/full", file))
			w.db.Reset() // sessions that have the file open keep it
			var full *pgconn.PgError
			var rejected *unilog.RejectedError
			if err := c.try(w); !errors.As(err, &full) || full.Code != "53100" || errors.As(err, &rejected) {
				t.Errorf("it says %v, want disk_full, which is no record's fault", err)
			}
			w.must(os.Remove(file))
			w.must(os.Rename(file+".kept", file))
			w.db.Reset()

			w.commit("10")
			records := query[int](w, `SELECT count(*) FROM amounts`)
			w.streamAll()
			w.wantCount("stream entries", len(w.streamIDs()), records)
			ctx, stop := context.WithCancel(w.ctx)
			w.must(w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
				cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) { stop() }
			}).Run(ctx))
			w.wantTotal("sum", query[string](w, `SELECT sum(amount)::text FROM amounts`))
		})
	}
}
