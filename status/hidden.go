package status

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/postgres"
)

// tables are the log's, of which processes must see each row.
var tables = strings.Fields(`staged_records log partitions batches places readers checkpoints members leases dead_letters`)

// Hidden is a table of which a user who is connected does not see each row, though he
// may read it.
type Hidden struct {
	Table string `json:"table"`
	User  string `json:"user"`
}

// sqlHiddenFrom goes by who is connected: row level security binds some and not others.
// Who may not read a table does not miss its rows. Index: pg_class_relname_nsp_index; a
// view of what is in memory.
const sqlHiddenFrom = `
SELECT DISTINCT c.relname::text, r.rolname::text
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
CROSS JOIN pg_stat_activity AS a JOIN pg_roles AS r ON r.oid = a.usesysid
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND c.relrowsecurity AND a.datname = current_database()
    AND NOT r.rolsuper AND NOT r.rolbypassrls AND has_table_privilege(r.oid, c.oid, 'SELECT')
    AND (c.relforcerowsecurity OR NOT pg_has_role(r.oid, c.relowner, 'USAGE'))
ORDER BY 1, 2`

// readHidden looks for rows that are hidden: from the reader, which is an error, and from
// others.
func (s *Status) readHidden(ctx context.Context, tx source) error {
	if err := postgres.CheckVisible(ctx, tx.Tx, tx.schema.Name(), tables...); err != nil || !s.seesSessions {
		return err
	}
	rows, err := tx.Query(ctx, sqlHiddenFrom, tx.schema.Name(), tables)
	if err != nil {
		return err
	}
	s.Hidden, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Hidden])
	return err
}

func (s *Status) hiddenTroubles() (out []string) {
	for _, h := range s.Hidden {
		out = append(out, fmt.Sprintf("row level security hides rows of %s from user %s, who is connected: disable it there, or ALTER ROLE %s BYPASSRLS", h.Table, h.User, h.User))
	}
	return out
}
