// Package migration creates and upgrades the tables of unilog.
//
// The tables come in sets that are versioned apart, so that a database gets
// what it needs: [Log] where writers stage records, [Consumer] where a consumer
// keeps its checkpoint. An application may run its own set along with them.
//
// The tables are in a schema, [unilog.DefaultSchema] unless one is asked for by [In].
// There the table migrations, the ledger, has a row for each file that was run.
// Whoever calls [Check] needs the right to read it.
package migration

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// In is the schema that the log's tables are in; "" is [unilog.DefaultSchema]. Its
// methods are the functions of the same names, for that schema. In the text of a
// migration, it takes the place of each "unilog.": see [unilog.Schema.SQL].
type In unilog.Schema

// Up brings the sets, in their order, to their newest versions. If the database
// is newer in one of them, Up returns an [OutdatedError] and changes nothing.
//
// Each file is one transaction, with its row in the ledger: if Up fails, or the
// process dies, the files before stay done, and the next Up goes on from there.
// Any number of processes may call it at once: they take turns, and none waits
// for another longer than a minute, after which Up fails. Nothing but ctx bounds
// the time of the files themselves. A database of the encoding SQL_ASCII, which lets any
// byte into a record, is refused. One that is up to date is only read; if something is
// missing there, Up returns an [IncompleteError], and [Mend] may help.
func Up(ctx context.Context, pool *pgxpool.Pool, sets ...Set) error {
	return In("").Up(ctx, pool, sets...)
}

// Up is the function [Up] in a schema, which it creates if it is missing.
func (in In) Up(ctx context.Context, pool *pgxpool.Pool, sets ...Set) error {
	return in.up(ctx, pool, lockWait, sets)
}

// OutdatedError says that a database's tables are older or newer than the
// program's.
type OutdatedError struct {
	Set       string
	Has, Want int64
}

func (e *OutdatedError) Error() string {
	if e.Has > e.Want {
		return fmt.Sprintf("the database's tables (%s version %d) are newer than this program knows (%d): run a newer program", e.Set, e.Has, e.Want)
	}
	return fmt.Sprintf("the database's tables (%s version %d) are older than this program needs (%d): migrate it first", e.Set, e.Has, e.Want)
}

// Check returns an [OutdatedError] unless every set is at its newest version, and an
// [IncompleteError] unless what it leaves is there. It changes nothing.
func Check(ctx context.Context, pool *pgxpool.Pool, sets ...Set) error {
	return In("").Check(ctx, pool, sets...)
}

// Check is the function [Check] in a schema.
func (in In) Check(ctx context.Context, pool *pgxpool.Pool, sets ...Set) error {
	if err := unilog.Schema(in).Check(); err != nil {
		return err
	}
	all, err := read(sets)
	if err != nil {
		return err
	}
	has, err := in.versions(ctx, pool)
	if err != nil {
		return err
	}
	for _, files := range all {
		if set, want := files[0].set, int64(len(files)); has[set] != want {
			return &OutdatedError{Set: set, Has: has[set], Want: want}
		}
	}
	_, err = in.incomplete(ctx, pool, sets, false)
	return err
}

// Index: those of the catalogs.
const sqlSchemas = `
SELECT n.nspname FROM pg_namespace AS n
WHERE EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname = 'migrations' AND c.relkind = 'r')
    AND EXISTS (SELECT FROM pg_class AS c WHERE c.relnamespace = n.oid AND c.relname IN ('staged_records', 'checkpoints') AND c.relkind = 'r')
ORDER BY n.nspname`

// Schemas returns those of a database that have tables of unilog.
func Schemas(ctx context.Context, db postgres.Querier) ([]unilog.Schema, error) {
	rows, _ := db.Query(ctx, sqlSchemas, pgx.QueryExecModeExec)
	all, err := pgx.CollectRows(rows, pgx.RowTo[unilog.Schema])
	if err != nil {
		return nil, fmt.Errorf("look for the tables of unilog in all schemas: %w", err)
	}
	return all, nil
}

// SQL returns what [Up] would do to a database that has none of the sets, as one
// transaction, for those who run their migrations by other means. It writes the
// ledger, so that [Check] and a later Up know of it.
func SQL(sets ...Set) (string, error) { return In("").SQL(sets...) }

// SQL is the function [SQL] in a schema.
func (in In) SQL(sets ...Set) (string, error) {
	if err := unilog.Schema(in).Check(); err != nil {
		return "", err
	}
	all, err := read(sets)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString("BEGIN;\n\n" + in.sqlBegin(lockWait))
	for _, files := range all {
		for _, f := range files {
			fmt.Fprintf(&b, "\n-- %v\n\n%s", &f, unilog.Schema(in).SQL(f.sql()))
		}
	}
	b.WriteString("\nCOMMIT;\n")
	return b.String(), nil
}
