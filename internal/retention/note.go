package retention

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// sqlNote changes a row only where the report is another one, by its time: then it is heard
// of now, by the database's clock. With Postgres alone, the row is the report. Index:
// readers_pkey.
const sqlNote = `
INSERT INTO unilog.readers AS r (name, partition, "offset", copied)
SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS n (name, partition, "offset", copied)
ORDER BY name, partition
ON CONFLICT (name, partition) DO UPDATE SET "offset" = excluded."offset", reported_at = excluded.reported_at, copied = excluded.copied
WHERE r.copied IS DISTINCT FROM excluded.copied AND trunc(extract(epoch FROM r.reported_at) * 1000) <> excluded.copied`

// Note copies what readers elsewhere have reported to the log into the database, where
// Look goes by it: the log may lose it, and readers that are down do not report again.
func (r Rule) Note(ctx context.Context, db *pgxpool.Pool, log unilog.Log) error {
	reporter, ok := log.(unilog.Reporter)
	if !r.KeepForReports || !ok {
		return nil
	}
	reports, err := reporter.Reports(ctx)
	if err != nil {
		return fmt.Errorf("read the reports of consumers elsewhere: %w", err)
	}
	var names []string
	var partitions []int32
	var offsets, times []int64
	for _, report := range reports {
		names, partitions = append(names, report.Name), append(partitions, int32(report.Partition))
		offsets, times = append(offsets, report.Offset), append(times, report.Time.UnixMilli())
	}
	if len(names) == 0 {
		return nil
	}
	if _, err := db.Exec(ctx, r.Schema.SQL(sqlNote), names, partitions, offsets, times); err != nil {
		return fmt.Errorf("note the reports of consumers elsewhere: %w", postgres.Explain(err))
	}
	return nil
}
