package testenv

import (
	"context"
	"crypto/rand"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/postgres"
)

// poolSize bounds a test's pool, so that many tests at once stay within the
// shared server's max_connections.
const poolSize = 12

// Migrate makes a database's schema.
type Migrate = func(context.Context, *pgxpool.Pool) error

var (
	templatesMu sync.Mutex
	templates   = map[string]func() (string, error){}
)

// Database returns a pool on a new database of the test's own, with the schema
// that migrate makes. migrate runs once per process and key: equal keys must
// mean equal schemas. The pool is closed and the database dropped with the
// test; other connections to it use pool.Config().ConnString().
func Database(t testing.TB, key string, migrate Migrate) *pgxpool.Pool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	server, err := shared.keeper.url("postgres")
	if err != nil {
		t.Fatal(err)
	}
	template, err := templateFor(server, key, migrate)()
	if err != nil {
		t.Fatalf("migrate %q: %v", key, err)
	}
	name := "test_" + strings.ToLower(rand.Text()[:12])
	if err := create(ctx, server, name, template); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := drop(context.Background(), server, name); err != nil {
			t.Errorf("drop the test's database: %v", err)
		}
	})
	pool, err := open(ctx, server, name)
	if err != nil {
		t.Fatal(err)
	}
	ClosePool(t, pool)
	return pool
}

// TB is what [ClosePool] needs of a test, or of a case of a property.
type TB interface {
	Cleanup(f func())
	Failed() bool
	Errorf(format string, args ...any)
}

// ClosePool closes a pool with the test, when all connections were given back. One that a
// failed test has kept does not hide why that failed.
func ClosePool(t TB, pool *pgxpool.Pool) {
	t.Cleanup(func() {
		closed := make(chan struct{})
		go func() {
			defer close(closed)
			pool.Close()
		}()
		if t.Failed() {
			return
		}
		select {
		case <-closed:
		case <-time.After(await.Patience):
			t.Errorf("waited %v for the test to give back its connections", await.Patience)
		}
	})
}

func templateFor(server string, key string, migrate Migrate) func() (string, error) {
	templatesMu.Lock()
	defer templatesMu.Unlock()
	ensure, ok := templates[key]
	if !ok {
		name := "template_" + strings.ToLower(rand.Text()[:12])
		ensure = sync.OnceValues(func() (string, error) { return name, makeTemplate(server, name, migrate) })
		templates[key] = ensure
	}
	return ensure
}

func makeTemplate(server string, name string, migrate Migrate) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	if err := create(ctx, server, name, "template0"); err != nil {
		return err
	}
	pool, err := open(ctx, server, name)
	if err != nil {
		return err
	}
	err = migrate(ctx, pool)
	pool.Close()
	if err != nil {
		return err
	}
	// Postgres copies no database that somebody is connected to.
	return admin(ctx, server, func(*pgx.Conn) string { return "ALTER DATABASE " + name + " ALLOW_CONNECTIONS false" })
}

// dropTemplates drops those of this process.
func dropTemplates() error {
	templatesMu.Lock()
	defer templatesMu.Unlock()
	for _, made := range templates {
		name, err := made()
		if err != nil {
			continue // a test has said so
		}
		server, err := shared.keeper.url("postgres")
		if err == nil {
			err = drop(context.Background(), server, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// create copies files, which Postgres 15 and later must be told to: with the
// drop that took 15 to 60 ms where their default took 45 to 85.
func create(ctx context.Context, server string, name, template string) error {
	return admin(ctx, server, func(conn *pgx.Conn) string {
		sql := "CREATE DATABASE " + name + " TEMPLATE " + template
		if major, _, _ := strings.Cut(conn.PgConn().ParameterStatus("server_version"), "."); len(major) > 1 && major >= "15" {
			sql += " STRATEGY file_copy"
		}
		return sql
	})
}

func drop(ctx context.Context, server string, name string) error {
	return admin(ctx, server, func(*pgx.Conn) string { return "DROP DATABASE " + name + " WITH (FORCE)" })
}

func open(ctx context.Context, server string, database string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL(server, database))
	if err != nil {
		return nil, err
	}
	config.MaxConns = poolSize
	return pgxpool.NewWithConfig(ctx, config)
}

func databaseURL(server string, database string) string {
	u, err := url.Parse(server)
	if err != nil {
		panic(err) // a server's URL is one
	}
	u.Path = "/" + database
	return u.String()
}

// administrator has few connections for what is outside the tests' databases: to open
// one for each statement would cost as much as the tests' own.
var administrator struct {
	sync.Mutex
	pool *pgxpool.Pool
}

// admin runs one statement, which may depend on the server, outside the tests'
// databases, when its database is unused.
func admin(ctx context.Context, server string, sql func(*pgx.Conn) string) error {
	pool, err := administration(ctx, server)
	if err != nil {
		return err
	}
	return pool.AcquireFunc(ctx, func(conn *pgxpool.Conn) error {
		return postgres.WhenUnused(ctx, conn, sql(conn.Conn()))
	})
}

func administration(ctx context.Context, server string) (*pgxpool.Pool, error) {
	administrator.Lock()
	defer administrator.Unlock()
	if administrator.pool != nil {
		return administrator.pool, nil
	}
	config, err := pgxpool.ParseConfig(databaseURL(server, "postgres"))
	if err != nil {
		return nil, err
	}
	config.MaxConns = 4
	administrator.pool, err = pgxpool.NewWithConfig(ctx, config)
	return administrator.pool, err
}

// closeAdministration closes the connections; admin opens others.
func closeAdministration() {
	administrator.Lock()
	defer administrator.Unlock()
	if administrator.pool != nil {
		administrator.pool.Close()
		administrator.pool = nil
	}
}
