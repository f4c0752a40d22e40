package migration

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/locks"
)

// migrating is another process's transaction, in the middle of a step.
func migrating(t *testing.T, pool *pgxpool.Pool) pgx.Tx {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	exec(t, tx, In("").sqlBegin(lockWait))
	return tx
}

func TestWaitForAnotherProcessIsBounded(t *testing.T) {
	t.Parallel()
	pool := database(t)
	another := migrating(t, pool)
	own := set("own", `CREATE TABLE a ()`)
	err := In("").up(t.Context(), pool, time.Millisecond, []Set{own})
	if says := fmt.Sprintf("migrate: another process has been migrating for 1ms: wait for it to end and try again; pg_locks has its pid, with classid %d: ", locks.Migration); err == nil || !strings.HasPrefix(err.Error(), says) {
		t.Errorf("Up says %v, want %s", err, says)
	}
	wantRows(t, pool, `SELECT pid FROM pg_locks, pg_database d WHERE datname = current_database() AND database = d.oid AND classid = `+fmt.Sprint(locks.Migration),
		fmt.Sprint(another.Conn().PgConn().PID()))
	if err := another.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pool, sqlTables)
	migrate(t, pool, own)
}

// What another process has done while this one waited is seen, whatever the
// isolation of transactions, and whatever this session knew before.
func TestWhoWaitedDoesNothingAgain(t *testing.T) {
	t.Parallel()
	for _, isolation := range []string{"read committed", "repeatable read", "serializable"} {
		t.Run(isolation, func(t *testing.T) {
			t.Parallel()
			pool := database(t, `default_transaction_isolation = '`+isolation+`'`)
			waiting := open(t, pool, pgx.QueryExecModeCacheStatement)
			another := migrating(t, pool)
			own := set("own", `CREATE TABLE a ()`, `CREATE TABLE b ()`)
			done := make(chan error, 1)
			go func() { done <- Up(t.Context(), waiting, own) }()
			await.That(t, "Up to wait for the lock", func() string {
				select {
				case err := <-done:
					t.Fatalf("Up has not waited: %v", err)
				default:
				}
				return strings.Join(rows(t, pool, `
					SELECT 'nobody waits' WHERE NOT EXISTS (
						SELECT FROM pg_locks, pg_database d
						WHERE datname = current_database() AND database = d.oid AND locktype = 'advisory' AND NOT granted)`), "")
			})
			files, err := own.read()
			if err != nil {
				t.Fatal(err)
			}
			exec(t, another, files[0].sql())
			if err := another.Commit(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := await.Receive(t, "Up to end", done); err != nil {
				t.Error(err)
			}
			wantRows(t, pool, sqlTables, "a", "b", "unilog.migrations")
			wantRows(t, pool, sqlRun, "own1", "own2")
		})
	}
}

func TestSettingsOfTheDatabaseChangeNothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []pgx.QueryExecMode{
		pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol,
	} {
		t.Run(mode.String(), func(t *testing.T) {
			t.Parallel()
			pool := database(t, `client_encoding = 'LATIN1'`, `standard_conforming_strings = off`, `escape_string_warning = off`,
				`default_transaction_isolation = 'serializable'`, `lock_timeout = '17min'`, `statement_timeout = '18min'`)
			process := open(t, pool, mode)
			own := set("own", `
				CREATE TABLE texts (n int GENERATED ALWAYS AS IDENTITY, t text);
				INSERT INTO texts (t) VALUES ('é'), ('\x'), (current_setting('lock_timeout')), (current_setting('statement_timeout'))`)
			for range 2 {
				migrate(t, process, Log, Consumer, own)
				if err := Check(t.Context(), process, Log, Consumer, own); err != nil {
					t.Error(err)
				}
			}
			wantRows(t, pool, `SELECT encode(convert_to(t, 'UTF8'), 'escape') FROM texts ORDER BY n`, `\303\251`, `\\x`, "17min", "0")
			// What a step sets is over with it.
			var encoding, conforming string
			err := process.QueryRow(t.Context(), `SELECT current_setting('client_encoding'), current_setting('standard_conforming_strings')`,
				pgx.QueryExecModeExec).Scan(&encoding, &conforming)
			if err != nil || encoding != "LATIN1" || conforming != "off" {
				t.Errorf("the session is left with %s and %s (%v)", encoding, conforming, err)
			}
		})
	}
}

func TestDatabaseThatTakesNoWrites(t *testing.T) {
	t.Parallel()
	first, second := `CREATE TABLE a ()`, `CREATE TABLE b ()`
	for name, before := range map[string][]string{"empty": nil, "outdated": {first}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := database(t, `default_transaction_read_only = on`)
			readOnly := open(t, pool, pgx.QueryExecModeCacheStatement)
			if before != nil {
				migrate(t, pool, set("own", before...))
				// There is nothing to write.
				migrate(t, readOnly, set("own", before...))
			}
			tables := rows(t, pool, sqlTables)
			err := Up(t.Context(), readOnly, set("own", first, second))
			if err == nil || !strings.HasPrefix(err.Error(), "migrate: the database takes no writes: connect to the primary") {
				t.Errorf("Up says %v", err)
			}
			wantRows(t, pool, sqlTables, tables...)
		})
	}
}

// A schema that comes first in the search_path, later on, does not hide what was
// run.
func TestLedgerFurtherDownTheSearchPath(t *testing.T) {
	t.Parallel()
	pool := database(t, `search_path = first, public`)
	process := open(t, pool, pgx.QueryExecModeCacheStatement)
	first, second := `CREATE TABLE a ()`, `ALTER TABLE a ADD COLUMN n int`
	migrate(t, process, set("own", first))
	exec(t, pool, `CREATE SCHEMA first`)
	migrate(t, process, set("own", first, second))
	wantRows(t, pool, `SELECT oid::regclass FROM pg_class WHERE relnamespace = 'first'::regnamespace`)
	wantRows(t, pool, sqlRun, "own1", "own2")
}
