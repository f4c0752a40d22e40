package endtoend_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(dir string) error{
		"and keeps everything": func(string) error { return nil },
		"and loses everything": os.RemoveAll,
		"and loses the newest": loseHalf,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				w.Must(server.Kill())
				<-server.Done()
				w.Must(lose(filepath.Join(server.Options().Dir, "data")))
				server = testenv.Restart(t, server)
				// The test's own client has to notice, too.
				reconnect(w)
			}
			l.goOn()
			l.finish()
		})
	}
}

// loseHalf cuts off the end of what Redis has written to disk.
func loseHalf(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		files = []string{filepath.Join(dir, "appendonly.aof")} // before Redis 7
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			return err
		}
		if err := os.Truncate(file, info.Size()/2); err != nil {
			return err
		}
	}
	return nil
}

func TestPostgresKilledUnderLoad(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	db, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db)
	w := world.SetupOn(t, db, testenv.SharedRedis(t))
	w.Must(world.MigrateWorld(w.Ctx, db))
	l := startLoad(w)
	for range 2 {
		l.goOn()
		w.Must(server.Kill())
		server = testenv.Restart(t, server)
		db.Reset() // its connections are the old server's
	}
	l.goOn()
	l.finish()
}

func TestForgetfulRedisKilledUnderLoad(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"that syncs once a second": {"--appendfsync", "everysec"},
		"that keeps nothing":       {"--appendonly", "no", "--save", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t, args...)
			w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL())
			l := startLoad(w)
			for range 3 {
				l.goOn()
				w.Must(server.Kill())
				server = testenv.Restart(t, server)
				reconnect(w)
			}
			l.goOn()
			l.finish()
		})
	}
}
