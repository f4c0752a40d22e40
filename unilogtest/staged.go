package unilogtest

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Querier runs a query: a pgx.Tx, a *pgxpool.Pool or a *pgx.Conn.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// SQLQuerier runs a query: a *sql.Tx, what embeds one, or a *sql.DB.
type SQLQuerier interface {
	QueryContext(ctx context.Context, sql string, args ...any) (*sql.Rows, error)
}

const (
	// A row that is seen, and whose transaction is in progress, is the transaction's own,
	// or that of a savepoint in it. Those have their ids after it. Index: none, a test's
	// table is small.
	sqlOwn = `
WITH own AS MATERIALIZED (SELECT pg_current_xact_id()::text::bigint AS id)
SELECT action, object, key, data::text, headers::text, body, coalesce(content_type, '')
FROM unilog.staged_records AS s CROSS JOIN own
CROSS JOIN LATERAL (SELECT (s.xmin::text::bigint - own.id) & 4294967295 AS later) AS l
WHERE CASE WHEN later < 2147483648 THEN pg_xact_status((own.id + later)::text::xid8) = 'in progress' END
ORDER BY s.id`

	sqlAll = `SELECT action, object, key, data::text, headers::text, body, coalesce(content_type, '') FROM unilog.staged_records ORDER BY id`
)

// Staged returns the records that were staged in a transaction, or in savepoints of it,
// in the order of staging: its own, not those that others have committed meanwhile. Their
// data is as Postgres writes it.
//
// Given a pool or a connection instead, it returns all records that are staged, committed
// and not numbered by a streamer yet.
func Staged(ctx context.Context, tx Querier) ([]unilog.Record, error) {
	_, own := tx.(pgx.Tx)
	return staged(ctx, byPgx(tx), own)
}

// StagedSQL is [Staged] by database/sql. Given a *sql.DB, it returns all records that are
// staged, committed and not numbered yet.
func StagedSQL(ctx context.Context, tx SQLQuerier) ([]unilog.Record, error) {
	_, pool := tx.(*sql.DB)
	return staged(ctx, bySQL(tx), !pool)
}

// RequireStaged ends the test unless [Staged] returns just these records, in this order.
// Data is compared as Postgres stores it: white space, and the order of members, do not
// matter.
func RequireStaged(t testing.TB, tx Querier, want ...unilog.Record) {
	t.Helper()
	got, err := Staged(t.Context(), tx)
	require(t, byPgx(tx), want, got, err)
}

// RequireStagedSQL is [RequireStaged] by database/sql.
func RequireStagedSQL(t testing.TB, tx SQLQuerier, want ...unilog.Record) {
	t.Helper()
	got, err := StagedSQL(t.Context(), tx)
	require(t, bySQL(tx), want, got, err)
}

// query calls f with each row that a query gives.
type query func(ctx context.Context, f func(scan func(...any) error) error, sql string, args ...any) error

func byPgx(tx Querier) query {
	return func(ctx context.Context, f func(func(...any) error) error, sql string, args ...any) error {
		rows, err := tx.Query(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := f(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

func bySQL(tx SQLQuerier) query {
	return func(ctx context.Context, f func(func(...any) error) error, sql string, args ...any) error {
		rows, err := tx.QueryContext(ctx, sql, args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			if err := f(rows.Scan); err != nil {
				return err
			}
		}
		return rows.Err()
	}
}

func staged(ctx context.Context, q query, own bool) (records []unilog.Record, err error) {
	sql := sqlAll
	if own {
		sql = sqlOwn
	}
	err = q(ctx, func(scan func(...any) error) error {
		var r unilog.Record
		var headers []byte
		err := scan(&r.Action, &r.Object, &r.Key, (*[]byte)(&r.Data), &headers, &r.Body, &r.ContentType)
		if err == nil {
			r.Headers, err = unilog.DecodeHeaders(headers)
		}
		records = append(records, r)
		return err
	}, sql)
	if err != nil {
		return nil, fmt.Errorf("unilogtest: read what is staged: %w", err)
	}
	return records, nil
}

func require(t testing.TB, q query, want, got []unilog.Record, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	want = slices.Clone(want)
	for i := range want {
		if want[i].ContentType != "" {
			continue
		}
		if want[i].Data, err = stored(t.Context(), q, want[i].Data); err != nil {
			t.Fatalf("unilogtest: the data of record %d that is wanted: %v", i, err)
		}
	}
	if d := diff(lines(want), lines(got)); d != "" {
		t.Fatalf("the records that are staged are not those that are wanted (- wanted, + staged):\n%s", d)
	}
}

// stored returns JSON as Postgres writes it.
func stored(ctx context.Context, q query, data json.RawMessage) (text json.RawMessage, err error) {
	if !json.Valid(data) {
		return nil, fmt.Errorf("%q is not JSON", data)
	}
	err = q(ctx, func(scan func(...any) error) error { return scan((*[]byte)(&text)) }, `SELECT $1::text::jsonb::text`, string(data))
	return text, err
}

// lines are records as a person reads them.
func lines(records []unilog.Record) []string {
	var all []string
	for _, r := range records {
		line := fmt.Sprintf("%s/%s %q %s", r.Object, r.Action, r.Key, r.Data)
		if r.ContentType != "" {
			line += fmt.Sprintf("%s %q", r.ContentType, r.Body)
		}
		for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
			line += fmt.Sprintf(" %s=%q", name, r.Headers[name])
		}
		all = append(all, line)
	}
	return all
}

// diff returns "" if the lines are the same, and else all of them: those that both have at
// the beginning and the end, and what differs between.
func diff(want, got []string) string {
	if slices.Equal(want, got) {
		return ""
	}
	first, last := 0, 0
	for first < min(len(want), len(got)) && want[first] == got[first] {
		first++
	}
	for last < min(len(want), len(got))-first && want[len(want)-1-last] == got[len(got)-1-last] {
		last++
	}
	var b strings.Builder
	write := func(mark string, lines []string) {
		for _, line := range lines {
			fmt.Fprintf(&b, "  %s %s\n", mark, line)
		}
	}
	write(" ", want[:first])
	write("-", want[first:len(want)-last])
	write("+", got[first:len(got)-last])
	write(" ", want[len(want)-last:])
	return b.String()
}
