package unilog_test

import (
	"strings"

	"github.com/jackc/pgx/v5"
)

// explain runs a statement and rolls it back.
func (w *world) explain(sql string, args ...any) string {
	w.Helper()
	tx := w.begin()
	defer func() { w.must(tx.Rollback(w.ctx)) }()
	rows, err := tx.Query(w.ctx, `EXPLAIN (ANALYZE, TIMING off, COSTS off) `+sql, args...)
	w.must(err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.must(err)
	return strings.Join(lines, "\n")
}
