package archive

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// sqlRead reads the batches that have offsets after $2 and up to $3, and of the first
// and of the last of them the records that are asked for. Offsets have no gaps, so the
// last one is the first that ends at $3 or later. At most $4 bytes, but for a first batch
// that is larger. Index: batches_pkey.
const sqlRead = `
SELECT first_offset, last_offset, whole OR (cardinality(staged_at) = cardinality(data) AND cardinality(action) = cardinality(data)
        AND cardinality(object) = cardinality(data) AND cardinality(key) = cardinality(data) AND cardinality(headers) = cardinality(data)
        AND coalesce(cardinality(body) = cardinality(data) AND cardinality(content_type) = cardinality(data), body IS NULL AND content_type IS NULL)),
    greatest(first_offset, $2 + 1),
    CASE WHEN whole THEN staged_at ELSE staged_at[lo:hi] END,
    CASE WHEN whole THEN action ELSE action[lo:hi] END,
    CASE WHEN whole THEN object ELSE object[lo:hi] END,
    CASE WHEN whole THEN key ELSE key[lo:hi] END,
    CASE WHEN whole THEN data ELSE data[lo:hi] END,
    CASE WHEN whole THEN headers ELSE headers[lo:hi] END,
    CASE WHEN whole THEN body ELSE body[lo:hi] END,
    CASE WHEN whole THEN content_type ELSE content_type[lo:hi] END
FROM (
    SELECT *, first_offset > $2 AND last_offset <= $3 AS whole,
        (greatest($2 + 1 - first_offset, 0) + 1)::integer AS lo,
        (least($3, last_offset) - first_offset + 1)::integer AS hi,
        sum(bytes) OVER (ORDER BY last_offset ROWS UNBOUNDED PRECEDING) AS so_far
    FROM unilog.batches
    WHERE partition = $1 AND last_offset > $2 AND first_offset <= $3 AND last_offset <= coalesce((
        SELECT last_offset FROM unilog.batches WHERE partition = $1 AND last_offset >= $3 ORDER BY last_offset LIMIT 1
    ), $3)
) AS b
WHERE so_far <= $4 OR so_far = bytes
ORDER BY last_offset`

// Reader is a pgxpool.Pool, a pgx.Conn or a pgx.Tx.
type Reader interface {
	SendBatch(ctx context.Context, batch *pgx.Batch) pgx.BatchResults
}

// BatchBytes bounds what a process holds of a batch: a batch ends with the
// record that passes it.
const BatchBytes = unilog.ReadBytes

// DamagedError says that a batch of the archive cannot be read: it was changed by hand, or
// by a server that failed.
type DamagedError struct {
	Partition   int
	First, Last int64
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("the row of unilog.batches that has offsets %d to %d of partition %d is damaged: its arrays must have %d values each, and none that is null",
		e.First, e.Last, e.Partition, e.Last-e.First+1)
}

// Read returns entries of a partition after one offset, up to another, in order: up to
// limit of them, and fewer if they are large. If the archive begins later, so do they.
// They follow each other: Read ends where a row was deleted or damaged by hand, but it
// begins after what was deleted, and returns a [DamagedError] for what is damaged.
func Read(ctx context.Context, db Reader, schema unilog.Schema, partition int, after, upTo int64, limit int) ([]unilog.Entry, error) {
	entries, err := read(ctx, db, schema, partition, after, min(upTo, after+int64(limit)))
	if err == nil && len(entries) == 0 && upTo > after+int64(limit) {
		// The archive begins later than that.
		var first int64
		if first, err = First(ctx, db, schema, partition); err == nil && first > after && first <= upTo {
			entries, err = read(ctx, db, schema, partition, first-1, min(upTo, first-1+int64(limit)))
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read the archive: %w", postgres.Explain(err))
	}
	return entries, nil
}

func read(ctx context.Context, db Reader, schema unilog.Schema, partition int, after, upTo int64) (entries []unilog.Entry, err error) {
	batch := &pgx.Batch{}
	batch.Queue(postgres.SQLSettings)
	batch.Queue(schema.SQL(sqlRead), partition, after, upTo, BatchBytes).Query(func(rows pgx.Rows) error {
		for rows.Next() {
			more, err := decodeSound(entries, rows, partition)
			n := len(entries)
			if damaged := new(DamagedError); n > 0 && (errors.As(err, &damaged) || err == nil && len(more) > n && more[n].Offset != more[n-1].Offset+1) {
				return nil
			}
			if err != nil {
				return err
			}
			entries = more
		}
		return rows.Err()
	})
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	return entries, nil
}

// decodeSound decodes a row of sqlRead.
func decodeSound(entries []unilog.Entry, rows pgx.Rows, partition int) ([]unilog.Entry, error) {
	damaged := &DamagedError{Partition: partition}
	var sound bool
	if err := rows.Scan(&damaged.First, &damaged.Last, &sound, nil, nil, nil, nil, nil, nil, nil, nil, nil); err != nil {
		return nil, err
	}
	if !sound {
		return nil, damaged
	}
	more, err := Append(entries, rows, 3, partition)
	if errors.Is(err, errDamaged) {
		return nil, damaged
	}
	return more, err
}

// sqlLacks returns where the first batch begins that ends at an offset or later, and
// whether there are any before. Index: batches_pkey.
const sqlLacks = `
SELECT (SELECT first_offset FROM unilog.batches WHERE partition = $1 AND last_offset >= $2 ORDER BY last_offset LIMIT 1),
    EXISTS (SELECT FROM unilog.batches WHERE partition = $1 AND last_offset < $2)`

// Lacks returns the last offset of a hole in the archive that begins at one offset and ends
// at another, or before. There is none if that is smaller than where it begins. It also
// says whether the archive has anything before: then it was not the retention.
func Lacks(ctx context.Context, db postgres.Querier, schema unilog.Schema, partition int, from, to int64) (last int64, hasEarlier bool, err error) {
	var next *int64
	rows, err := db.Query(ctx, schema.SQL(sqlLacks), partition, from)
	if err == nil {
		_, err = pgx.ForEachRow(rows, []any{&next, &hasEarlier}, func() error { return nil })
	}
	if err != nil {
		return 0, false, fmt.Errorf("read what the archive lacks: %w", err)
	}
	if next != nil {
		to = min(to, *next-1)
	}
	return to, hasEarlier, nil
}

// Index: batches_pkey, partitions_pkey.
const sqlFirst = `
SELECT coalesce(
    (SELECT first_offset FROM unilog.batches WHERE partition = $1 ORDER BY last_offset LIMIT 1),
    (SELECT next_offset FROM unilog.partitions WHERE partition = $1), 1)`

// First returns the first offset that the archive has of a partition, or the next one
// if it has none.
func First(ctx context.Context, db Reader, schema unilog.Schema, partition int) (first int64, err error) {
	batch := &pgx.Batch{}
	batch.Queue(postgres.SQLSettings)
	batch.Queue(schema.SQL(sqlFirst), partition).QueryRow(func(row pgx.Row) error { return row.Scan(&first) })
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("read where the archive begins: %w", postgres.Explain(err))
	}
	return first, nil
}

// SQLNumbered reads how far each partition is numbered. Index: none, it is a row per
// partition.
const SQLNumbered = `SELECT next_offset - 1 FROM unilog.partitions ORDER BY partition`
