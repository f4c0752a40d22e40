package archive

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// sqlDelete deletes the first batches of each partition that end before an offset and
// were numbered long enough ago: a few, so that the transaction is short. Index:
// batches_pkey, of each partition as many rows as are deleted.
const sqlDelete = `
WITH old AS MATERIALIZED (
    SELECT d.partition, b.last_offset
    FROM unnest($1::integer[], $2::bigint[]) AS d (partition, needed)
    CROSS JOIN LATERAL (
        SELECT last_offset, numbered_at FROM unilog.batches
        WHERE partition = d.partition AND last_offset < d.needed
        ORDER BY last_offset
        LIMIT $4
    ) AS b
    WHERE b.numbered_at < clock_timestamp() - make_interval(secs => $3)
)
DELETE FROM unilog.batches AS b USING old WHERE b.partition = old.partition AND b.last_offset = old.last_offset`

// Delete deletes batches that nobody needs: those that end before the needed offset of
// their partition and were numbered longer ago than the retention. It returns whether
// there may be more, since each call deletes a few of each partition.
func Delete(ctx context.Context, tx pgx.Tx, schema unilog.Schema, needed map[int]int64, retention time.Duration) (more bool, err error) {
	const step = 50 // batches of a partition
	partitions, offsets := make([]int32, 0, len(needed)), make([]int64, 0, len(needed))
	for p, offset := range needed {
		partitions, offsets = append(partitions, int32(p)), append(offsets, offset)
	}
	tag, err := tx.Exec(ctx, schema.SQL(sqlDelete), partitions, offsets, retention.Seconds(), step)
	if err != nil {
		return false, fmt.Errorf("delete old batches of the archive: %w", err)
	}
	return tag.RowsAffected() >= step, nil
}

// sqlMerge makes one batch of several that follow each other. What is not whole any more,
// since a row was deleted or damaged by hand, it leaves as it is. Index: batches_pkey.
const sqlMerge = `
WITH whole AS (
    SELECT FROM unilog.batches WHERE partition = $1 AND last_offset > $2 AND last_offset <= $3
    HAVING sum(last_offset - first_offset + 1) = max(last_offset) - min(first_offset) + 1
        AND bool_and(cardinality(staged_at) = cardinality(data) AND cardinality(action) = cardinality(data)
            AND cardinality(object) = cardinality(data) AND cardinality(key) = cardinality(data) AND cardinality(headers) = cardinality(data)
            AND coalesce(cardinality(body) = cardinality(data) AND cardinality(content_type) = cardinality(data), body IS NULL AND content_type IS NULL))
), parts AS (
    DELETE FROM unilog.batches WHERE partition = $1 AND last_offset > $2 AND last_offset <= $3 AND EXISTS (SELECT FROM whole)
    RETURNING *
), records AS (
    SELECT array_agg(staged_at) AS staged_at, array_agg(action) AS action, array_agg(object) AS object,
        array_agg(key) AS key, array_agg(data) AS data, array_agg(headers) AS headers,
        CASE WHEN count(content_type) > 0 THEN array_agg(body) END AS body,
        CASE WHEN count(content_type) > 0 THEN array_agg(content_type) END AS content_type
    FROM (
        SELECT r.*
        FROM parts AS p
        CROSS JOIN LATERAL unnest(p.staged_at, p.action, p.object, p.key, p.data, p.headers, p.body, p.content_type)
            WITH ORDINALITY AS r (staged_at, action, object, key, data, headers, body, content_type, n)
        ORDER BY p.first_offset, r.n
    ) AS r
)
INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, numbered_at, staged_at, action, object, key, data, headers, body, content_type)
SELECT $1, p.first_offset, p.last_offset, p.bytes, p.numbered_at, r.*
FROM (
    SELECT min(first_offset) AS first_offset, max(last_offset) AS last_offset, sum(bytes) AS bytes, max(numbered_at) AS numbered_at
    FROM parts
) AS p CROSS JOIN records AS r
WHERE p.first_offset IS NOT NULL`

// Merge makes one batch of those of a partition that lie after one offset and end at
// another or before, unless one of them is gone. Readers see either the parts or the whole.
func Merge(ctx context.Context, tx pgx.Tx, schema unilog.Schema, partition int, after, upTo int64) error {
	if _, err := tx.Exec(ctx, schema.SQL(sqlMerge), partition, after, upTo); err != nil {
		return fmt.Errorf("merge small batches of the archive: %w", err)
	}
	return nil
}
