package unilog

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
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

// sqlArchived reads the archive in order, up to a number of records and of
// bytes. Index: log_records_pkey, of the chunks in the range.
const sqlArchived = `
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

// batchBytes bounds what a process holds of a batch: a batch ends with the
// record that passes it.
const batchBytes = 4 << 20

type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// number gives the oldest staged records their offsets. It returns the last id
// that it met. No entries means that nothing is staged, or that the term is over.
func number(ctx context.Context, db querier, term Term, limit int, published, lowWater int64, channel string) (entries []Entry, last int64, err error) {
	rows, err := db.Query(ctx, sqlNumber, term.Partition, term.Epoch, limit, batchBytes, published, lowWater, channel)
	if err == nil {
		entries, last, err = collectEntries(rows, term.Partition)
	}
	for i := range entries {
		entries[i].Offset += int64(i) // each row has the first one
	}
	if err != nil {
		return nil, 0, fmt.Errorf("number staged records: %w", err)
	}
	return entries, last, nil
}

// archived returns entries after one offset, up to another, from the archive.
func archived(ctx context.Context, db querier, partition int, after, upTo int64, limit int) ([]Entry, error) {
	rows, err := db.Query(ctx, sqlArchived, partition, after, upTo, limit, batchBytes)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	entries, _, err := collectEntries(rows, partition)
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", err)
	}
	return entries, nil
}

// ReadArchive returns entries of a partition after one offset, up to another, in
// order: up to limit of them, and fewer if they are large. It is for a
// [NotifiedLog]; a [Consumer] reads the archive itself where its log has a gap.
func ReadArchive(ctx context.Context, db *pgxpool.Pool, partition int, after, upTo int64, limit int) ([]Entry, error) {
	return archived(ctx, db, partition, after, upTo, limit)
}

// EncodeHeaders writes headers as a JSON object, nil if there are none.
func EncodeHeaders(headers map[string]string) ([]byte, error) {
	if len(headers) == 0 {
		return nil, nil
	}
	return json.Marshal(headers)
}

// DecodeHeaders reads what [EncodeHeaders] wrote. A member that is not a
// string, as another writer may have staged it, is kept as its JSON text.
func DecodeHeaders(text []byte) (map[string]string, error) {
	if len(text) <= len("{}") {
		return nil, nil
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("headers: %w", err)
	}
	headers := make(map[string]string, len(raw))
	for name, value := range raw {
		var s string
		if json.Unmarshal(value, &s) != nil {
			s = string(value)
		}
		headers[name] = s
	}
	return headers, nil
}
