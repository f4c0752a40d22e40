package streamer

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/postgres"
)

// sqlNumber moves the oldest visible rows from the staging table to the
// archive and gives them the next offsets. It is one statement, and so has one
// snapshot: a row that it does not see it does not touch, however low its id.
//
// The head's row is locked before anything is deleted, and with another epoch
// in it nothing is: CTE head is then empty, and everything joins it. What is
// deleted is what was selected, by its place in the table, which is quicker than
// by its id; what is inserted is what was deleted. On the way it records how far
// the log goes, which saves a transaction a batch. Who listens on the channel, if
// one is named, hears of it when it is committed.
//
// Index: staged_log_records_pkey, log_partitions_pkey.
const sqlNumber = `
WITH head AS MATERIALIZED (
    SELECT next_offset FROM log_partitions
    WHERE partition = $1 AND epoch = $2
    FOR UPDATE
), moved AS (
    DELETE FROM staged_log_records AS s
    USING head
    WHERE s.ctid = ANY (ARRAY(
        SELECT place FROM (
            SELECT ctid AS place, sum(size) OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) - size AS before
            FROM staged_log_records
            WHERE id > $6
            ORDER BY id
            LIMIT $3
        ) AS oldest
        WHERE before < $4
    ))
    RETURNING s.*, head.next_offset
), placed AS (
    INSERT INTO log_records (partition, "offset", size, staged_at, action, object, key, data, headers)
    SELECT $1, next_offset - 1 + row_number() OVER (ORDER BY id), size, staged_at, action, object, key, data, headers
    FROM moved
), advanced AS (
    UPDATE log_partitions AS p
    SET next_offset = head.next_offset + (SELECT count(*) FROM moved), published_offset = $5, low_water = $6
    FROM head
    WHERE p.partition = $1 AND EXISTS (SELECT FROM moved)
    RETURNING CASE WHEN $7::text <> '' THEN pg_notify($7, p.partition::text) END
)
SELECT next_offset, staged_at, action, object, key, data::text, headers::text, id
FROM moved
ORDER BY id`

// number gives the oldest staged records their offsets. It returns the last id
// that it met. No entries means that nothing is staged, or that the term is over.
func number(ctx context.Context, db postgres.Querier, term unilog.Term, limit int, published, lowWater int64, channel string) (entries []unilog.Entry, last int64, err error) {
	rows, err := db.Query(ctx, sqlNumber, term.Partition, term.Epoch, limit, archive.BatchBytes, published, lowWater, channel)
	if err == nil {
		entries, last, err = archive.Collect(rows, term.Partition)
	}
	for i := range entries {
		entries[i].Offset += int64(i) // each row has the first one
	}
	if err != nil {
		return nil, 0, fmt.Errorf("number staged records: %w", err)
	}
	return entries, last, nil
}
