package pglog

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

var _ unilog.Reporter = (*Log)(nil)

const (
	// Index: readers_pkey, for all of these.
	sqlReport = `
INSERT INTO unilog.readers AS r (name, partition, "offset")
SELECT $1, u.partition, u.at FROM unnest($2::integer[], $3::bigint[]) AS u (partition, at) ORDER BY u.partition
ON CONFLICT (name, partition) DO UPDATE SET "offset" = excluded."offset", reported_at = excluded.reported_at`

	sqlReports = `SELECT name, partition, "offset", reported_at FROM unilog.readers`

	sqlForget = `DELETE FROM unilog.readers WHERE name = $1`
)

// Report implements [unilog.Reporter] by rows of the table readers. Their time is the
// database's.
func (l *Log) Report(ctx context.Context, name string, at map[int]unilog.Cursor) error {
	partitions, offsets := make([]int32, 0, len(at)), make([]int64, 0, len(at))
	for partition, c := range at {
		partitions, offsets = append(partitions, int32(partition)), append(offsets, c.Offset)
	}
	_, err := l.pool.Exec(ctx, l.schema.SQL(sqlReport), name, partitions, offsets)
	return l.reported("report to", err)
}

// Reports implements [unilog.Reporter].
func (l *Log) Reports(ctx context.Context) ([]unilog.Report, error) {
	rows, _ := l.pool.Query(ctx, l.schema.SQL(sqlReports))
	reports, err := pgx.CollectRows(rows, pgx.RowToStructByPos[unilog.Report])
	return reports, l.reported("read", err)
}

// ForgetReports implements [unilog.Reporter].
func (l *Log) ForgetReports(ctx context.Context, name string) error {
	_, err := l.pool.Exec(ctx, l.schema.SQL(sqlForget), name)
	return l.reported("delete from", err)
}

func (l *Log) reported(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("pglog: %s the table readers: %w", what, postgres.Explain(postgres.Reconnect(l.pool, err)))
}
