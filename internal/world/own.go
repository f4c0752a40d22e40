package world

import (
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// SetupOwn makes a world on a Postgres that the test may stop, with arguments beside
// the usual ones.
func SetupOwn(t *testing.T, args ...string) (*World, *private.Server) {
	t.Helper()
	server := testenv.Postgres(t, args...)
	db, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db)
	w := SetupOn(t, db, testenv.SharedRedis(t))
	w.Must(MigrateWorld(w.Ctx, db))
	return w, server
}

func (w *World) Run(name string, args ...string) {
	w.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.Fatal(name, args, err, string(out))
	}
}

// StreamAll streams until nothing is left, by a process of its own.
func (w *World) StreamAll() {
	w.Helper()
	s := w.Streamer()
	w.Drain(s)
	s.Close()
}

// SetupSource makes a world on Redis with a log_id of its own: the other setups'
// databases are copies of one.
func SetupSource(t *testing.T) *World {
	t.Helper()
	w := SetupOnRedis(t)
	w.Exec(`UPDATE unilog.log SET log_id = gen_random_uuid()`)
	return w
}

// StateElsewhere returns a database for consumers of other worlds' logs.
func StateElsewhere(t *testing.T) *World {
	t.Helper()
	return Bare(t, testenv.Database(t, "world", MigrateWorld))
}

// SetupOn makes a world on servers that the test may kill. It is checked by the
// test itself: when a test's cleanups run, such servers are gone.
func SetupOn(t testing.TB, db *pgxpool.Pool, redisURL string) *World {
	t.Helper()
	w := Bare(t, db)
	redisURL = testenv.PatientRedis(redisURL)
	log, err := redislog.Open(w.Ctx, redisURL, w.Stream)
	w.Must(err)
	t.Cleanup(log.Close)
	w.Log = log
	option, err := rueidis.ParseURL(redisURL)
	w.Must(err)
	option.DisableCache = true
	w.Redis, err = rueidis.NewClient(option)
	w.Must(err)
	t.Cleanup(w.Redis.Close)
	return w
}

// Bound returns a pool of a role that row level security binds, and that has all other
// rights to the tables.
func (w *World) Bound() *pgxpool.Pool {
	w.Helper()
	w.Exec(`GRANT ALL ON SCHEMA unilog, public TO pg_monitor;
		GRANT ALL ON ALL TABLES IN SCHEMA unilog, public TO pg_monitor;
		GRANT ALL ON ALL SEQUENCES IN SCHEMA unilog, public TO pg_monitor`)
	config := w.DB.Config()
	config.ConnConfig.RuntimeParams["role"] = "pg_monitor" // which every server has
	bound, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(w, bound)
	return bound
}
