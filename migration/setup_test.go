package migration

import (
	"context"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// database is a new one without any table. Each of its settings holds for pools
// that are opened later.
func database(t *testing.T, settings ...string) *pgxpool.Pool {
	t.Helper()
	pool := testenv.Database(t, "empty", func(context.Context, *pgxpool.Pool) error { return nil })
	for _, s := range settings {
		exec(t, pool, `DO $do$ BEGIN EXECUTE format($$ALTER DATABASE %I SET `+s+`$$, current_database()); END $do$`)
	}
	return pool
}

// open is one more process's pool, of one connection.
func open(t *testing.T, pool *pgxpool.Pool, mode pgx.QueryExecMode) *pgxpool.Pool {
	t.Helper()
	config := pool.Config()
	config.MaxConns = 1
	config.ConnConfig.DefaultQueryExecMode = mode
	another, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, another)
	return another
}

// set has files that are numbered from 1.
func set(name string, texts ...string) Set {
	files := fstest.MapFS{}
	for i, text := range texts {
		files[fmt.Sprintf("%05d_file.sql", i+1)] = &fstest.MapFile{Data: []byte(text)}
	}
	return Set{Name: name, FS: files}
}

// newest is the version of a set's last file.
func newest(t *testing.T, s Set) int64 {
	t.Helper()
	files, err := s.read()
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(files))
}

func migrate(t *testing.T, pool *pgxpool.Pool, sets ...Set) {
	t.Helper()
	if err := Up(t.Context(), pool, sets...); err != nil {
		t.Fatal(err)
	}
}

func exec(t *testing.T, db interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, sql string,
) {
	t.Helper()
	if _, err := db.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// rows are those of a query with one column, as texts.
func rows(t *testing.T, pool *pgxpool.Pool, sql string) []string {
	t.Helper()
	r, err := pool.Query(t.Context(), `SELECT row::text FROM (`+sql+`) AS q (row)`)
	if err != nil {
		t.Fatal(err)
	}
	texts, err := pgx.CollectRows(r, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return texts
}

// ledger is what was run, and when.
func ledger(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	return rows(t, pool, `SELECT (set_name, version, name, applied_at, xmin) FROM unilog.migrations ORDER BY set_name, version`)
}

// wantRows sees that a query returns just these.
func wantRows(t *testing.T, pool *pgxpool.Pool, sql string, want ...string) {
	t.Helper()
	if got := rows(t, pool, sql); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %q, want %q", sql, got, want)
	}
}

const (
	sqlTables = `SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text IN ('public', 'unilog') ORDER BY oid::regclass::text`
	sqlRun    = `SELECT set_name || version FROM unilog.migrations ORDER BY 1`
)
