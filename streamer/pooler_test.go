package streamer_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestStreamerBehindAPooler has a server whose sessions look to their clients as they do
// behind a pooler. One that shares them would give the streamer's settings, and its locks,
// to everybody: the streamer must leave them alone.
func TestStreamerBehindAPooler(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pid    string
		shares bool
	}{
		"in session mode":     {`pg_catalog.pg_backend_pid() + 10000000`, false},
		"in transaction mode": {`10000000 + nextval('disguise.n')::int`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Commit("1")
			w.Exec(`CREATE SCHEMA disguise`)
			w.Exec(`CREATE SEQUENCE disguise.n`)
			w.Exec(`CREATE FUNCTION disguise.pg_backend_pid() RETURNS int LANGUAGE sql AS $$ SELECT ` + c.pid + ` $$`)
			w.Exec(`DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = disguise, pg_catalog, public', current_database()); END $$`)
			db, err := pgxpool.NewWithConfig(w.Ctx, w.DB.Config())
			w.Must(err)
			testenv.ClosePool(t, db)
			s := w.Streamer(func(cfg *streamer.Config) { cfg.DB = db })
			if !c.shares {
				w.WantCount("published", w.Drain(s), 1)
				return
			}
			for _, run := range []func() error{
				func() error { return w.EndOf(w.Ctx, s.Run) },
				func() error { _, err := w.Timely(s.RunOnce); return err },
			} {
				if err := run(); !errors.Is(err, unilog.ErrPooled) {
					t.Errorf("it says %v", err)
				}
			}
		})
	}
}
