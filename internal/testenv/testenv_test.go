package testenv

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
)

// TestMain doubles as the test binaries that TestKeeper kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TESTENV_TEST_DIR"); dir != "" {
		beClient(dir)
	}
	Main(m)
}

func schema(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, `
		CREATE TABLE things (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
		CREATE INDEX ON things (name)`)
	return err
}

// Each test has a database of its own, and all of them one migration.
func TestDatabase(t *testing.T) {
	t.Parallel()
	var migrations atomic.Int32
	key := StreamName(t)
	migrate := func(ctx context.Context, pool *pgxpool.Pool) error {
		migrations.Add(1)
		return schema(ctx, pool)
	}
	for i := range 16 {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			t.Parallel()
			pool := Database(t, key, migrate)
			var n int
			if _, err := pool.Exec(t.Context(), `INSERT INTO things (name) VALUES ('a')`); err != nil {
				t.Fatal(err)
			}
			if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil || n != 1 {
				t.Errorf("n = %d, %v", n, err)
			}
			other, err := pgxpool.New(t.Context(), pool.Config().ConnString())
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			if err := other.QueryRow(t.Context(), `SELECT count(*) FROM things`).Scan(&n); err != nil || n != 1 {
				t.Errorf("n = %d, %v through ConnString", n, err)
			}
			if m := migrations.Load(); m != 1 {
				t.Errorf("%d migrations", m)
			}
		})
	}
}

func TestRedis(t *testing.T) {
	t.Parallel()
	own := Redis(t)
	for _, url := range []string{SharedRedis(t), own.URL()} {
		if n := incr(t, url, StreamName(t)); n != 1 {
			t.Errorf("n = %d", n)
		}
	}
	key := StreamName(t)
	incr(t, own.URL(), key)
	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	if n := incr(t, Restart(t, own).URL(), key); n != 2 {
		t.Errorf("n = %d after a restart", n)
	}
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	own := Postgres(t)
	pool, err := pgxpool.New(t.Context(), own.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := schema(t.Context(), pool); err != nil {
		t.Fatal(err)
	}

	if err := own.Kill(); err != nil {
		t.Fatal(err)
	}
	Restart(t, own)
	pool.Reset()
	if _, err := pool.Exec(t.Context(), `INSERT INTO things (name) VALUES ('a')`); err != nil {
		t.Error(err)
	}
}

// failed is a test that has.
type failed struct {
	TB
	cleanup func()
}

func (*failed) Failed() bool        { return true }
func (f *failed) Cleanup(do func()) { f.cleanup = do }

// TestFailedTestEnds has one fail with a connection in hand.
func TestFailedTestEnds(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), Database(t, "things", schema).Config().ConnString())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := failed{TB: t}
	ClosePool(&f, pool)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f.cleanup()
	}()
	await.Receive(t, "the test to end", ended)
	conn.Release()
	pool.Close()
}

func incr(t *testing.T, url, key string) int64 {
	t.Helper()
	c := RedisClient(t, url)
	n, err := c.Do(t.Context(), c.B().Incr().Key(key).Build()).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func BenchmarkDatabase(b *testing.B) {
	Database(b, "things", schema)
	server, err := shared.keeper.url("postgres")
	if err != nil {
		b.Fatal(err)
	}
	template, err := templateFor(server, "things", schema)()
	if err != nil {
		b.Fatal(err)
	}
	var i atomic.Int32
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			name := fmt.Sprintf("%s_%d", template, i.Add(1))
			if err := create(b.Context(), server, name, template); err != nil {
				b.Error(err)
			}
			if err := drop(b.Context(), server, name); err != nil {
				b.Error(err)
			}
		}
	})
}
