package unilogtest

import (
	"context"
	"crypto/rand"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/migration"
)

// variables name the server, the first one that is set.
var variables = []string{"UNILOG_TEST_DATABASE_URL", "DATABASE_URL"}

// timeout bounds what is done with the server for a test's database.
const timeout = time.Minute

// Database returns a pool on a new database of the test's own, which has the tables of
// unilog and nothing else. The pool is closed and the database dropped when the test
// ends; if the test is killed, a database named unilogtest_… is left behind.
//
// It is on the server of UNILOG_TEST_DATABASE_URL, or else of DATABASE_URL, whose role
// must be allowed to create databases. Of that URL's own database nothing is read or
// changed. Without such a server the test fails.
//
// For drivers other than pgx, db.Config().ConnString() is the database's URL.
func Database(t testing.TB) *pgxpool.Pool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	variable, server := "", ""
	for _, name := range variables {
		if server = os.Getenv(name); server != "" {
			variable = name
			break
		}
	}
	if server == "" {
		t.Fatalf("unilogtest: set %s to a Postgres in which this test may create a database, such as postgres://localhost/postgres", variables[0])
	}
	admin, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatalf("unilogtest: the server of %s: %v", variable, loop.OneLine(err))
	}
	t.Cleanup(func() { _ = admin.Close(context.Background()) })
	name := "unilogtest_" + strings.ToLower(rand.Text()[:12])
	if _, err := admin.Exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8'"); err != nil {
		t.Fatalf("unilogtest: create a database on the server of %s, which needs a role with CREATEDB: %v", variable, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		defer cancel()
		if err := postgres.WhenUnused(ctx, admin, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("unilogtest: drop the database %s: %v", name, err)
		}
	})
	db := open(ctx, t, server, name)
	if err := migration.Up(ctx, db, migration.Log, migration.Consumer); err != nil {
		t.Fatalf("unilogtest: %v", err)
	}
	return db
}

// open opens a pool on a database of a server.
func open(ctx context.Context, t testing.TB, server, name string) *pgxpool.Pool {
	t.Helper()
	db, err := pgxpool.New(ctx, databaseOn(server, name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			go db.Close() // which waits for a connection that the test has kept
			return
		}
		db.Close()
	})
	return db
}

// databaseOn returns a connection string for another database of the same server.
func databaseOn(server, name string) string {
	u, err := url.Parse(server)
	if err != nil || u.Scheme == "" {
		return server + " dbname=" + name // keywords and values, of which the last one counts
	}
	u.Path = "/" + name
	query := u.Query()
	query.Del("dbname")
	query.Del("database")
	u.RawQuery = query.Encode()
	return u.String()
}
