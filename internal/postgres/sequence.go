package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Whoever may see the catalogs may see this, whatever rights he has in the schema.
// Index: those of the catalogs.
const sqlSequence = `
SELECT coalesce(s.seqrelid::regclass::text, ''), coalesce(s.seqcache, 0), coalesce(s.seqincrement, 0), coalesce(s.seqcycle, false)
FROM pg_namespace AS n
JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = 'staged_records'
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attname = 'id'
LEFT JOIN pg_depend AS d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.refobjsubid = a.attnum
    AND d.classid = 'pg_class'::regclass AND d.deptype = 'i' AND a.attidentity <> ''
LEFT JOIN pg_sequence AS s ON s.seqrelid = d.objid
WHERE n.nspname = $1
ORDER BY s.seqrelid
LIMIT 1`

// CheckSequence returns a [unilog.SequenceSettingError] if the ids of the staging table
// in a schema are in no order. Without that table it returns [pgx.ErrNoRows].
func CheckSequence(ctx context.Context, db interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}, schema unilog.Schema,
) error {
	var name string
	var cache, increment int64
	var cycle bool
	// A mode that a pooler does not mix up.
	err := db.QueryRow(ctx, sqlSequence, pgx.QueryExecModeExec, schema.Name()).Scan(&name, &cache, &increment, &cycle)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return err
	case err != nil:
		return fmt.Errorf("look at the sequence of the ids: %w", err)
	case name == "":
		return &unilog.SequenceSettingError{
			Found:  schema.SQL("the column id of unilog.staged_records is no identity"),
			Change: schema.SQL("run ALTER TABLE unilog.staged_records ALTER id DROP DEFAULT, ALTER id ADD GENERATED ALWAYS AS IDENTITY (START n), n being above all ids so far"),
		}
	case cache > 1 || increment < 1 || cycle:
		return &unilog.SequenceSettingError{
			Found:  fmt.Sprintf("the sequence %s has CACHE %d, INCREMENT %d and %s", name, cache, increment, map[bool]string{true: "CYCLE", false: "NO CYCLE"}[cycle]),
			Change: fmt.Sprintf("run ALTER SEQUENCE %s CACHE 1 INCREMENT %d NO CYCLE", name, max(cmp.Or(increment, 1), 1)),
		}
	}
	return nil
}
