package status

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// What was reported to the log comes first; the table has what was reported with Postgres
// alone, and what a log has lost since. One that has not reported in a partition has not
// begun it. Index: readers_pkey, batches_pkey once for each of a handful of rows.
const sqlElsewhere = `
WITH told AS (
    SELECT * FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::float8[]) AS r (name, partition, "offset", silent)
), reported AS (
    SELECT * FROM told
    UNION ALL
    SELECT name, partition, "offset", extract(epoch FROM clock_timestamp() - reported_at)::float8
    FROM unilog.readers AS r
    WHERE NOT EXISTS (SELECT FROM told AS t WHERE t.name = r.name AND t.partition = r.partition)
)
SELECT name, p.partition, coalesce(r."offset", 0), p.next_offset - 1 - coalesce(r."offset", 0),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - b.staged_at[greatest(coalesce(r."offset", 0) - b.first_offset + 2, 1)::integer])
        FROM unilog.batches AS b
        WHERE b.partition = p.partition AND b.last_offset > coalesce(r."offset", 0) ORDER BY b.last_offset LIMIT 1), 0)::float8,
    n.silent, coalesce(r.silent, n.silent)
FROM (SELECT name, greatest(min(silent), 0) AS silent FROM reported WHERE name <> ALL ($5) GROUP BY name) AS n
CROSS JOIN unilog.partitions AS p LEFT JOIN reported AS r USING (name, partition)
ORDER BY name, partition`

// Elsewhere reads how far those consumers and deliverers have come that report through the
// log, as they keep their checkpoints elsewhere, but for those of names that are known
// from their checkpoints. Without a log it reads what the database knows of them. If the
// log does not answer, or may not be asked, it returns that, too, with an error.
func Elsewhere(ctx context.Context, db Beginner, schema unilog.Schema, log unilog.Log, known []Consumer) ([]Consumer, error) {
	reports, refused := reportsOf(ctx, log)
	var names []string
	var partitions []int32
	var offsets []int64
	var silent []float64
	for _, r := range reports {
		names, partitions, offsets = append(names, r.Name), append(partitions, int32(r.Partition)), append(offsets, r.Offset)
		silent = append(silent, max(0, time.Since(r.Time).Seconds()))
	}
	others := []string{}
	for _, c := range known {
		if !c.Elsewhere {
			others = append(others, c.Name)
		}
	}
	var found []Consumer
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		batch := new(pgx.Batch)
		postgres.Bound(ctx, batch)
		batch.Queue(postgres.SQLSettings)
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		rows, err := source{tx, schema}.Query(ctx, sqlElsewhere, names, partitions, offsets, silent, others)
		if err != nil {
			return err
		}
		found, err = collect(rows, nil)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read the reports of consumers elsewhere: %w", postgres.Explain(err))
	}
	for i := range found {
		found[i].elsewhere()
	}
	return found, refused
}

// reportsOf asks the log, if it is one that takes reports.
func reportsOf(ctx context.Context, log unilog.Log) ([]unilog.Report, error) {
	reporter, ok := log.(unilog.Reporter)
	if !ok {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	return reporter.Reports(ctx)
}

// elsewhere makes of what is true now what was true at the last report, as long as there
// are some: nobody knows what has been applied since.
func (c *Consumer) elsewhere() {
	c.Elsewhere = true
	if c.Silent > 2*loop.Heartbeat.Seconds() {
		return
	}
	c.LagSeconds = 0
	for i := range c.Behind {
		p := &c.Behind[i]
		p.LagSeconds = max(0, p.LagSeconds-p.Silent)
		if p.LagSeconds > c.LagSeconds {
			c.LagSeconds, c.Slowest = p.LagSeconds, p.Partition
		}
	}
}

// readElsewhere adds those to the consumers that are known.
func (s *Status) readElsewhere(ctx context.Context, db Beginner, schema unilog.Schema, log unilog.Log) error {
	if s.LogError != "" {
		log = nil // it would not answer
	}
	found, err := Elsewhere(ctx, db, schema, log, s.Consumers)
	if err != nil && found == nil {
		return err
	}
	if err != nil {
		s.ReportsError = err.Error()
	}
	s.Consumers = append(s.Consumers, found...)
	return nil
}

func (s *Status) reportsTroubles() []string {
	if s.ReportsError == "" {
		return nil
	}
	return []string{"consumers elsewhere are not seen, as their reports cannot be read: " + s.ReportsError}
}
