package unilog_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestDiskFull puts /dev/full, of which Linux says that no space is left on it,
// in the place of the file of a table that a process writes to. The server is the
// test's own: its checkpoints fail meanwhile, and with them other tests' databases.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	template, server := setupOwn(t)
	template.db.Close()
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
			w := setupOn(t, databaseOn(t, server, name), testenv.SharedRedis(t))
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
			w.checkArchive()
			w.checkStream()
			w.checkAudit()
		})
	}
}

// databaseOn makes a database on a server of the test's own, a copy of its first one.
func databaseOn(t *testing.T, server *private.Server, name string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	first := config.ConnConfig.Database
	config.ConnConfig.Database = "template1"
	admin, err := pgx.ConnectConfig(t.Context(), config.ConnConfig)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = admin.Close(t.Context()) }()
	if _, err := admin.Exec(t.Context(), `CREATE DATABASE `+name+` TEMPLATE `+first); err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Database = name
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	return db
}
