package sqltx_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"reflect"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rocketrides/unilog/internal/sqltx"
	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// sqlTypes has values of the types that pgx's own driver knows, and of others.
const sqlTypes = `
SELECT true AS a_bool, $1::smallint AS a_small, -2::int, 9223372036854775807::bigint, 1.5::real, 0.1::real, 0.1::double precision, 'NaN'::float8,
    12345678901234567890.10::numeric, 'text'::text, ''::text, 'v'::varchar(9), 'c'::char(3), 'n'::name, '"'::"char",
    '\x00ff'::bytea, ''::bytea, '{"a": 1.0}'::json, '{"a": 1.0}'::jsonb, '<a/>'::xml,
    '2026-02-03'::date, 'infinity'::date, '2026-02-03 04:05:06.789'::timestamp, '2026-02-03 04:05:06.789+02'::timestamptz, '-infinity'::timestamptz,
    '04:05'::time, '1 day 2 hours'::interval, '{1,2}'::int[], '{a,"b c",NULL}'::text[], '[1,3)'::int4range,
    '7f4a2f1e-7e1a-4b9e-9f0e-0123456789ab'::uuid, '10.0.0.1/8'::inet, 42::oid, '43'::xid, 'pg_class'::regclass, '(1,2)'::point, ROW(1, 'x'), NULL::int, NULL::text
FROM generate_series(1, 2)`

// table is what a query returns, with its columns' names and types.
func table(tx *sql.Tx, query string, args ...any) (out []string, err error) {
	rows, err := tx.Query(query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	columns, err := rows.ColumnTypes()
	if err != nil {
		return nil, err
	}
	values, into := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		for i, v := range values {
			out = append(out, fmt.Sprintf("%s %s %T %v", columns[i].Name(), columns[i].DatabaseTypeName(), v, v))
		}
	}
	return out, rows.Err()
}

// TestValuesAreThoseOfPgxsDriver reads by both, as prepared statements and as text.
func TestValuesAreThoseOfPgxsDriver(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := testenv.Database(t, "sqltx", func(context.Context, *pgxpool.Pool) error { return nil })
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		config := pool.Config().ConnConfig
		config.DefaultQueryExecMode = mode
		db := stdlib.OpenDB(*config)
		theirs, err := db.BeginTx(ctx, nil)
		must(t, err)
		want, err := table(theirs, sqlTypes, 7)
		must(t, errors.Join(err, theirs.Rollback(), db.Close()))

		conn, err := pgx.ConnectConfig(ctx, config)
		must(t, err)
		tx, err := conn.Begin(ctx)
		must(t, err)
		must(t, sqltx.Call(ctx, tx, func(ours *sql.Tx) error {
			got, err := table(ours, sqlTypes, 7)
			if !reflect.DeepEqual(got, want) || len(want) < 50 {
				for i := range want {
					if i >= len(got) || got[i] != want[i] {
						t.Errorf("%v: got %v, want %v", mode, got[i:], want[i])
						break
					}
				}
			}
			return err
		}))
		must(t, errors.Join(tx.Rollback(ctx), conn.Close(ctx)))
	}
}

// TestRowsThatFailInTheMiddle sees that the error comes through, and that the transaction
// can be rolled back to a savepoint.
func TestRowsThatFailInTheMiddle(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	pool := testenv.Database(t, "sqltx", func(context.Context, *pgxpool.Pool) error { return nil })
	must(t, pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		return sqltx.Call(ctx, tx, func(tx *sql.Tx) error {
			_, err1 := tx.ExecContext(ctx, `SAVEPOINT s`)
			if got, err := table(tx, `SELECT 1 / (3 - n) FROM generate_series(1, 9) AS n`); err == nil {
				t.Errorf("it read %v", got)
			}
			_, err2 := tx.ExecContext(ctx, `ROLLBACK TO s`)
			got, err3 := table(tx, `SELECT 1 WHERE false`)
			if len(got) > 0 {
				t.Errorf("it read %v of nothing", got)
			}
			return errors.Join(err1, err2, err3)
		})
	}))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
