package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// tables are those of the log, and whose processes need to see each of their rows.
var tables = map[string][]Process{
	"staged_records": {API, Streamer},
	"log":            {API, Streamer, Consumer},
	"partitions":     {API, Streamer, Consumer},
	"batches":        {Streamer, Consumer},
	"places":         {Streamer, Consumer},
	"readers":        {Streamer},
	"checkpoints":    {Streamer, Consumer},
	"members":        {Consumer},
	"leases":         {Consumer},
	"dead_letters":   {Consumer},
	"migrations":     {API, Streamer, Consumer},
}

// sqlSecured lists the tables $2 in the schema $1 that have row level security. Index:
// pg_class_relname_nsp_index.
const sqlSecured = `
SELECT c.relname::text FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = ANY ($2::text[]) AND c.relrowsecurity ORDER BY c.relname`

// examineRows looks for tables of which this role, or another, may not see each row.
func examineRows(ctx context.Context, conn *pgx.Conn, schema unilog.Schema) (findings []Finding, err error) {
	const check, why = "rows", "rows that are not seen look like none: records that nobody numbers, consumers that nothing is kept for"
	all := slices.Sorted(maps.Keys(tables))
	rows, _ := conn.Query(ctx, sqlSecured, pgx.QueryExecModeExec, schema.Name(), all)
	secured, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	for _, table := range all {
		err := postgres.CheckVisible(ctx, conn, schema.Name(), table)
		var hidden *postgres.HiddenError
		switch {
		case errors.As(err, &hidden):
			findings = append(findings, about(check+" of "+table, Unsafe, hidden.Found(), why, hidden.Change(), tables[table]...))
		case err != nil:
			return nil, err
		case slices.Contains(secured, table):
			findings = append(findings, about(check+" of "+table, Advice,
				fmt.Sprintf("row level security is on for %s.%s, and does not bind this role", schema.Name(), table), why,
				"see that the users of all processes have BYPASSRLS, or disable it"))
		}
	}
	if findings == nil {
		findings = append(findings, about(check, OK, "each row of the log's tables can be seen", why, ""))
	}
	return findings, nil
}
