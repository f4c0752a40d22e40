package migration

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
)

// lockWait bounds the wait for another process that migrates.
const lockWait = time.Minute

// sqlBegin begins each transaction: with the settings that files rely on, with
// the lock, for which no lock_timeout of the database's own counts, and with the
// ledger. No timeout but the caller's bounds statements.
//
// Who may not create a schema must find it: IF NOT EXISTS asks for the right all the
// same. What was committed while this session waited to_regclass may not see yet,
// but IF NOT EXISTS does.
func (in In) sqlBegin(wait time.Duration) string {
	return unilog.Schema(in).SQL(fmt.Sprintf(`SET LOCAL client_encoding = 'UTF8';
SET LOCAL standard_conforming_strings = on;
SET LOCAL statement_timeout = 0;
SET LOCAL idle_in_transaction_session_timeout = 0;
SET LOCAL lock_timeout = %[1]d; -- ms
DO $$
BEGIN
    PERFORM set_config(name, '0', true) FROM pg_settings WHERE name = 'transaction_timeout'; -- since Postgres 17
    PERFORM pg_advisory_xact_lock(%[2]d, 0); -- one process at a time
    IF to_regnamespace('%[3]s') IS NULL THEN
        CREATE SCHEMA IF NOT EXISTS %[3]s;
    END IF;
    IF to_regclass('unilog.migrations') IS NULL THEN
        CREATE TABLE IF NOT EXISTS unilog.migrations (
            set_name   text NOT NULL,
            version    bigint NOT NULL,
            name       text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (set_name, version)
        );
    END IF;
END
$$;
SET LOCAL lock_timeout TO DEFAULT;
`, wait.Milliseconds(), locks.Migration, pgx.Identifier{unilog.Schema(in).Name()}.Sanitize()))
}

func (in In) up(ctx context.Context, pool *pgxpool.Pool, wait time.Duration, sets []Set) error {
	if err := unilog.Schema(in).Check(); err != nil {
		return err
	}
	all, err := read(sets)
	if err != nil {
		return err
	}
	next, err := in.pending(ctx, pool, all)
	if err == nil && next != nil {
		err = pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error { return postgres.CheckServer(c.Conn()) })
	}
	for err == nil && next != nil {
		next, err = in.step(ctx, pool, wait, all)
	}
	if postgres.SQLState(err) == readOnly {
		err = fmt.Errorf("the database takes no writes: connect to the primary, and see default_transaction_read_only: %w", err)
	}
	if postgres.HasNoRight(err) {
		err = fmt.Errorf("the user needs the right to make what is missing, such as CREATE on the database for the schema %s, unless that is there and his: %w",
			unilog.Schema(in).Name(), err)
	}
	if err == nil {
		_, err = in.incomplete(ctx, pool, sets, false)
	}
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	return nil
}

// step runs the next file and returns it, or nil if none is left.
func (in In) step(ctx context.Context, pool *pgxpool.Pool, wait time.Duration, all [][]file) (next *file, err error) {
	// Not the database's default: what others did before the lock was given must be seen.
	options := pgx.TxOptions{IsoLevel: pgx.ReadCommitted}
	err = pgx.BeginTxFunc(ctx, pool, options, func(tx pgx.Tx) error {
		// Without arguments, Exec sends all statements as one message.
		_, err := tx.Exec(ctx, in.sqlBegin(wait))
		if postgres.SQLState(err) == lockNotAvailable {
			return fmt.Errorf("another process has been migrating for %v: wait for it to end and try again; "+
				"pg_locks has its pid, with classid %d: %w", wait, locks.Migration, err)
		}
		if err != nil {
			return err
		}
		next, err = in.pending(ctx, tx, all)
		if err != nil || next == nil {
			return err
		}
		_, err = tx.Exec(ctx, unilog.Schema(in).SQL(next.sql()))
		if duplicates[postgres.SQLState(err)] {
			err = fmt.Errorf("its tables are there, and the table %s does not know of it: if they are of this version, run %s; if they are another log's, set another search_path: %w",
				unilog.Schema(in).SQL("unilog.migrations"), unilog.Schema(in).SQL(next.ledger()), err)
		}
		if postgres.SQLState(err) == lockNotAvailable {
			err = fmt.Errorf("another transaction holds what it changes: wait for it to end and try again: %w", err)
		}
		return err
	})
	if err != nil && next != nil {
		err = fmt.Errorf("%v: %w", next, err)
	}
	return next, err
}

// pending returns the file that is to be run next, or nil, or an error if the
// database is newer in any of the sets.
func (in In) pending(ctx context.Context, db querier, all [][]file) (next *file, err error) {
	has, err := in.versions(ctx, db)
	if err != nil {
		return nil, err
	}
	for _, files := range all {
		set, want := files[0].set, int64(len(files))
		switch at := has[set]; {
		case at > want:
			return nil, &OutdatedError{Set: set, Has: at, Want: want}
		case at < want && next == nil:
			next = &files[at]
		}
	}
	return next, nil
}

// querier is a pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// versions returns the sets' versions, none if there is no ledger.
func (in In) versions(ctx context.Context, db querier) (map[string]int64, error) {
	// A mode that prepares nothing, and works with every client_encoding.
	const mode = pgx.QueryExecModeExec
	var exists bool
	err := db.QueryRow(ctx, unilog.Schema(in).SQL(`SELECT to_regclass('unilog.migrations') IS NOT NULL`), mode).Scan(&exists)
	if err != nil || !exists {
		return nil, err
	}
	rows, _ := db.Query(ctx, unilog.Schema(in).SQL(`SELECT set_name, max(version) FROM unilog.migrations GROUP BY set_name`), mode) // ForEachRow has the error
	has := map[string]int64{}
	var set string
	var version int64
	_, err = pgx.ForEachRow(rows, []any{&set, &version}, func() error {
		has[set] = version
		return nil
	})
	if err == nil && len(has) == 0 {
		err = postgres.CheckVisible(ctx, db, unilog.Schema(in).Name(), "migrations")
	}
	return has, err
}

const (
	lockNotAvailable = "55P03"
	readOnly         = "25006"
)

// duplicates say that a table, a column or a function is there already.
var duplicates = map[string]bool{"42P07": true, "42701": true, "42723": true}
