package archive

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// SQLArchived reads the archive in order, up to a number of records and of
// bytes. Index: log_records_pkey, of the chunks in the range.
const SQLArchived = `
SELECT "offset", staged_at, action, object, key, data::text, headers::text, 0::bigint
FROM (
    SELECT *, sum(size) OVER (ORDER BY "offset" ROWS UNBOUNDED PRECEDING) - size AS before
    FROM log_records
    WHERE partition = $1 AND "offset" > $2 AND "offset" <= $3
    ORDER BY "offset"
    LIMIT $4
) AS r
WHERE before < $5
ORDER BY "offset"`

// BatchBytes bounds what a process holds of a batch: a batch ends with the
// record that passes it.
const BatchBytes = 4 << 20

// Read returns entries of a partition after one offset, up to another, in
// order: up to limit of them, and fewer if they are large.
func Read(ctx context.Context, db postgres.Querier, partition int, after, upTo int64, limit int) ([]unilog.Entry, error) {
	rows, err := db.Query(ctx, SQLArchived, partition, after, upTo, limit, BatchBytes)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	entries, _, err := Collect(rows, partition)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	return entries, nil
}

// SQLNumbered reads how far each partition is numbered. Index: none, it is a row per
// partition.
const SQLNumbered = `SELECT next_offset - 1 FROM log_partitions ORDER BY partition`
