package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// SQLSettings sets what statements rely on, whatever the server, the database or the
// role has set, until the end of the transaction, which a batch is. A row that row level
// security hides is an error then, not a hole. Text is read and written as UTF-8, and
// times in a form that can be read. Nothing is compiled, which takes far longer than
// running it.
const SQLSettings = `
SELECT set_config('row_security', 'off', true), set_config('client_encoding', 'UTF8', true),
    set_config('DateStyle', 'ISO', true), set_config('jit', 'off', true)`

// sqlBound sets how long statements may take, in milliseconds, and takes back what ends
// transactions. Not every Postgres has all of these settings.
const sqlBound = `
SELECT set_config(name, CASE name WHEN 'transaction_timeout' THEN '0' ELSE $1 END, true)
FROM pg_settings
WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`

// Bound gives what a batch, or a transaction, does next the time that ctx has, whatever
// the server, the database or the role has set: what takes long on a large database is
// bounded by who waits for it.
func Bound(ctx context.Context, batch *pgx.Batch) {
	left := int64(0)
	if deadline, ok := ctx.Deadline(); ok {
		left = max(time.Until(deadline).Milliseconds(), 1)
	}
	batch.Queue(sqlBound, strconv.FormatInt(left, 10))
}

// sqlHidden lists those of the tables $2 in the schema $1 that are no tables, or of which
// this role does not see each row. Index: pg_class_relname_nsp_index.
const sqlHidden = `
SELECT c.relname::text, c.relkind NOT IN ('r', 'p'), current_user::text
FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[])
    AND (c.relkind NOT IN ('r', 'p') OR pg_catalog.row_security_active(c.oid))
ORDER BY c.relname`

// HiddenError says that a role does not see all rows of some tables.
type HiddenError struct {
	Schema string
	Role   string
	// Secured are tables with row level security that binds the role, and Replaced are
	// those that are a view, or something else that is no table.
	Secured, Replaced []string
}

func (e *HiddenError) Error() string { return e.Found() + ": " + e.Change() }

// Found says what is hidden.
func (e *HiddenError) Found() string {
	var found []string
	if len(e.Secured) > 0 {
		found = append(found, fmt.Sprintf("row level security hides rows of %s from role %s", e.names(e.Secured), e.Role))
	}
	if len(e.Replaced) > 0 {
		found = append(found, e.names(e.Replaced)+" is no table and may hide rows")
	}
	return strings.Join(found, ", and ")
}

// Change says what to do about it.
func (e *HiddenError) Change() string {
	var change []string
	if len(e.Secured) > 0 {
		change = append(change, fmt.Sprintf("ALTER TABLE %s DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS for the user that connects", e.names(e.Secured[:1])))
	}
	if len(e.Replaced) > 0 {
		change = append(change, "put the table itself in the place of "+e.names(e.Replaced))
	}
	return strings.Join(change, "; ")
}

func (e *HiddenError) names(tables []string) string {
	names := slices.Clone(tables)
	for i := range names {
		names[i] = e.Schema + "." + names[i]
	}
	return strings.Join(names, ", ")
}

// CheckVisible returns a [HiddenError] if the role of db's sessions does not see each row
// of the tables. One that is not there it passes over.
func CheckVisible(ctx context.Context, db Querier, schema string, tables ...string) error {
	// A mode that prepares nothing, for those who look whether a pooler is between.
	rows, _ := db.Query(ctx, sqlHidden, pgx.QueryExecModeExec, schema, tables)
	e := &HiddenError{Schema: schema}
	var table string
	var replaced bool
	_, err := pgx.ForEachRow(rows, []any{&table, &replaced, &e.Role}, func() error {
		if replaced {
			e.Replaced = append(e.Replaced, table)
		} else {
			e.Secured = append(e.Secured, table)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look whether rows are hidden: %w", err)
	}
	if e.Role == "" {
		return nil
	}
	return e
}

// Missing explains err, that rows are missing which are always there, by their being
// hidden, if they are. Other errors it returns as they are.
func Missing(ctx context.Context, db Querier, schema string, err error, tables ...string) error {
	if !errors.Is(err, pgx.ErrNoRows) {
		return err
	}
	var hidden *HiddenError
	if errors.As(CheckVisible(ctx, db, schema, tables...), &hidden) {
		return hidden
	}
	return err
}

// Explain says what to do about a statement that row level security has refused or that a
// pooler has mixed up, and what to set on a server that has too little of something. Other
// errors it returns as they are.
func Explain(err error) error {
	if IsMixedUp(err) {
		return fmt.Errorf("%w: %s", err, MixedUp)
	}
	if !IsSecured(err) {
		return scarcity(err)
	}
	return fmt.Errorf("%w: ALTER TABLE … DISABLE ROW LEVEL SECURITY, or ALTER ROLE … BYPASSRLS for the user that connects", err)
}

// IsSecured says whether row level security has refused a statement, because it would
// hide rows from it, or because of what it writes.
func IsSecured(err error) bool {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || !HasNoRight(err) {
		return false
	}
	// The source's names, since the text comes in the server's language.
	return refused.Routine == "check_enable_rls" || refused.Routine == "ExecWithCheckOptions"
}
