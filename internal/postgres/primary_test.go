package postgres_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// TestKeepToPrimary has a pool whose server becomes read only under an open connection.
func TestKeepToPrimary(t *testing.T) {
	t.Parallel()
	writable := testenv.Database(t, "empty", func(context.Context, *pgxpool.Pool) error { return nil })
	config := writable.Config()
	postgres.KeepToPrimary(config)
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db)
	exec := func(db *pgxpool.Pool, sql string) error {
		_, err := db.Exec(t.Context(), sql)
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	session := func() (pid int) {
		t.Helper()
		must(db.QueryRow(t.Context(), `SELECT pg_backend_pid()`).Scan(&pid))
		return pid
	}
	first := session()
	if session() != first {
		t.Error("a connection to a primary was not kept")
	}
	must(exec(db, `SET default_transaction_read_only = on`)) // for this session, as a reload would
	if session() == first {
		t.Error("a connection to what is no primary any more was kept")
	}
	must(exec(db, `CREATE TABLE written ()`))

	const setDefault = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = %L', current_database(), '`
	must(exec(writable, setDefault+`on'); END $$`))
	db.Reset()
	session() // one can still look at it
	err = postgres.Reconnect(db, exec(db, `DROP TABLE written`))
	if !errors.Is(err, postgres.ErrNotPrimary) || !postgres.IsTransient(err) {
		t.Errorf("a write ends with %v", err)
	}
	must(exec(writable, setDefault+`off'); END $$`))
	must(exec(db, `DROP TABLE written`))
}
