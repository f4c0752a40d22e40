package endtoend_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestPgBouncerSession has all of them behind a pooler in session mode.
func TestPgBouncerSession(t *testing.T) {
	t.Parallel()
	p := testenv.PgBouncer(t, "session")
	w, direct := behind(t, p)
	w.Must(world.MigrateWorld(w.Ctx, w.DB))
	l := startLoad(w)
	w.DB = direct
	endure(p, l)
}

// TestPgBouncerTransaction has writers and consumers behind a pooler in transaction mode,
// with what the documents say of the mode of pgx, and streamers past it.
func TestPgBouncerTransaction(t *testing.T) {
	t.Parallel()
	p := testenv.PgBouncer(t, "transaction")
	w, direct := behind(t, p, func(c *pgxpool.Config) { c.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe })
	w.Must(world.MigrateWorld(w.Ctx, direct))
	l := startLoad(w, func(cfg *streamer.Config) { cfg.DB = direct })
	w.DB = direct
	endure(p, l)
}

// behind makes a world whose connections lead through the pooler, and a pool of others.
func behind(t *testing.T, p *testenv.Pooler, change ...func(*pgxpool.Config)) (w *world.World, direct *pgxpool.Pool) {
	t.Helper()
	open := func(url string, change ...func(*pgxpool.Config)) *pgxpool.Pool {
		config, err := pgxpool.ParseConfig(url)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range change {
			f(config)
		}
		db, err := pgxpool.NewWithConfig(context.Background(), config)
		if err != nil {
			t.Fatal(err)
		}
		testenv.ClosePool(t, db)
		return db
	}
	direct = open(p.Direct)
	return world.SetupOn(t, open(p.URL, change...), testenv.SharedRedis(t)), direct
}

// endure kills the pooler, and then Postgres ends the sessions of all.
func endure(p *testenv.Pooler, l *load) {
	l.Helper()
	for range 2 {
		l.goOn()
		p.Kill()
		p.Start()
		l.goOn()
		l.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'`)
		l.DB.Reset() // the others of its sessions have ended, too
	}
	l.goOn()
	l.finish()
}
