package unilog_test

import (
	"os/exec"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

// setupOwn makes a world on a Postgres that the test may stop.
func setupOwn(t *testing.T) (*world, *private.Server) {
	t.Helper()
	server := testenv.Postgres(t)
	db, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	w := setupOn(t, db, testenv.SharedRedis(t))
	w.must(migrateWorld(w.ctx, db))
	return w, server
}

func (w *world) run(name string, args ...string) {
	w.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		w.Fatal(name, args, err, string(out))
	}
}

// streamAll streams until nothing is left, by a process of its own.
func (w *world) streamAll() {
	w.Helper()
	s := w.streamer()
	w.drain(s)
	s.Close()
}

// setupSource makes a world with a log_id of its own: setup's databases are copies
// of one.
func setupSource(t *testing.T) *world {
	t.Helper()
	w := setup(t)
	w.exec(`UPDATE log_partitions SET log_id = gen_random_uuid()`)
	return w
}

// stateElsewhere returns a database for consumers of other worlds' logs.
func stateElsewhere(t *testing.T) *world {
	t.Helper()
	return bare(t, testenv.Database(t, "world", migrateWorld))
}

// setupOn makes a world on servers that the test may kill. It is checked by the
// test itself: when a test's cleanups run, such servers are gone.
func setupOn(t *testing.T, db *pgxpool.Pool, redisURL string) *world {
	t.Helper()
	w := bare(t, db)
	var err error
	w.log, err = redislog.Open(w.ctx, redisURL, w.stream)
	w.must(err)
	t.Cleanup(w.log.Close)
	option, err := rueidis.ParseURL(redisURL)
	w.must(err)
	option.DisableCache = true
	w.redis, err = rueidis.NewClient(option)
	w.must(err)
	t.Cleanup(w.redis.Close)
	return w
}
