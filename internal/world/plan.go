package world

import (
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/postgres"
)

// Explain runs a statement and rolls it back.
func (w *World) Explain(sql string, args ...any) string {
	w.Helper()
	tx := w.Begin()
	defer func() { w.Must(tx.Rollback(w.Ctx)) }()
	_, err := tx.Exec(w.Ctx, postgres.SQLSettings)
	w.Must(err)
	rows, err := tx.Query(w.Ctx, `EXPLAIN (ANALYZE, TIMING off, COSTS off) `+sql, args...)
	w.Must(err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.Must(err)
	return strings.Join(lines, "\n")
}
