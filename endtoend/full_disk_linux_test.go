package endtoend_test

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
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestDiskFull puts /dev/full, of which Linux says that no space is left on it,
// in the place of the file of a table that a process writes to. The server is the
// test's own: its checkpoints fail meanwhile, and with them other tests' databases.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	template, server := world.SetupOwn(t)
	template.DB.Close()
	for name, c := range map[string]struct {
		table string
		try   func(w *world.World) error
	}{
		"writer": {"unilog.staged_records", func(w *world.World) error {
			return pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
				if _, err := tx.Exec(w.Ctx, `INSERT INTO amounts (amount) VALUES (1)`); err != nil {
					return err
				}
				return unilog.Stage(w.Ctx, tx, world.Record("1"))
			})
		}},
		"streamer": {"unilog.batches", func(w *world.World) error {
			w.Commit("1")
			s := w.Streamer()
			defer s.Close()
			_, err := s.RunOnce(w.Ctx)
			return err
		}},
		"consumer": {"applied", func(w *world.World) error {
			w.Commit("1")
			w.StreamAll()
			_, err := w.Consumer("sum").RunOnce(w.Ctx)
			return err
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := world.SetupOn(t, databaseOn(t, server, name), testenv.SharedRedis(t))
			w.StreamAll() // begins the terms
			file := filepath.Join(world.Query[string](w, `SELECT current_setting('data_directory')`),
				world.Query[string](w, `SELECT pg_relation_filepath($1)`, c.table))
			w.Must(os.Rename(file, file+".kept"))
			w.Must(os.Symlink("/dev/full", file))
			w.DB.Reset() // sessions that have the file open keep it
			var full *pgconn.PgError
			var rejected *unilog.RejectedError
			if err := c.try(w); !errors.As(err, &full) || full.Code != "53100" || errors.As(err, &rejected) {
				t.Errorf("it says %v, want disk_full, which is no record's fault", err)
			}
			w.Must(os.Remove(file))
			w.Must(os.Rename(file+".kept", file))
			w.DB.Reset()

			w.Commit("10")
			records := world.Query[int](w, `SELECT count(*) FROM amounts`)
			w.StreamAll()
			w.WantCount("stream entries", len(w.Offsets()), records)
			ctx, stop := context.WithCancel(w.Ctx)
			w.Must(w.Consumer("sum", func(cfg *consumer.Config) {
				cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) { stop() }
			}).Run(ctx))
			w.WantTotal("sum", world.Query[string](w, `SELECT sum(amount)::text FROM amounts`))
			w.CheckArchive()
			w.CheckLog()
			w.CheckAudit()
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
	if err := postgres.WhenUnused(t.Context(), admin, `CREATE DATABASE `+name+` TEMPLATE `+first); err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.Database = name
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db)
	return db
}
