package world

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

// Archive puts entries of a partition, whose offsets follow each other, into the
// archive as one batch, as numbering them would.
func Archive(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
	var stagedAt []time.Time
	var columns [4][]string // action, object, key, headers
	var data, types []*string
	var bodies [][]byte
	bytes, hasBodies := 0, false
	for _, e := range entries {
		headers, err := unilog.EncodeHeaders(e.Headers)
		if err != nil {
			return err
		}
		if headers == nil {
			headers = []byte("{}")
		}
		stagedAt = append(stagedAt, e.StagedAt)
		for i, value := range []string{e.Action, e.Object, e.Key, string(headers)} {
			columns[i] = append(columns[i], value)
			bytes += len(value)
		}
		bytes += len(e.Payload())
		if text := string(e.Data); e.ContentType == "" {
			data, bodies, types = append(data, &text), append(bodies, nil), append(types, nil)
		} else {
			data, bodies, types = append(data, nil), append(bodies, e.Body), append(types, &e.ContentType)
			hasBodies = true
		}
	}
	if !hasBodies {
		bodies, types = nil, nil
	}
	_, err := tx.Exec(ctx, `
		INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers, body, content_type)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
		entries[0].Partition, entries[0].Offset, entries[len(entries)-1].Offset, bytes,
		stagedAt, columns[0], columns[1], columns[2], data, columns[3], bodies, types)
	return err
}

// LoseArchive deletes what the archive has of a partition up to an offset.
func (w *World) LoseArchive(partition int, upTo int64) {
	w.Helper()
	w.Exec(`DELETE FROM unilog.batches WHERE partition = $1 AND last_offset <= $2`, partition, upTo)
	w.Exec(`
		UPDATE unilog.batches SET first_offset = $2 + 1, staged_at = staged_at[n + 1:], action = action[n + 1:], object = object[n + 1:],
			key = key[n + 1:], data = data[n + 1:], headers = headers[n + 1:], body = body[n + 1:], content_type = content_type[n + 1:]
		FROM (SELECT partition, last_offset, ($2 - first_offset + 1)::integer AS n FROM unilog.batches) AS cut
		WHERE batches.partition = cut.partition AND batches.last_offset = cut.last_offset
			AND batches.partition = $1 AND first_offset <= $2::bigint`, partition, upTo)
}

// DateArchive makes the records of the archive as old as an interval says, those of
// one partition or, with -1, all.
func (w *World) DateArchive(partition int, age string) {
	w.Helper()
	w.Exec(`
		UPDATE unilog.batches SET staged_at = array_fill(now() - $2::interval, ARRAY[cardinality(staged_at)])
		WHERE partition = $1 OR $1 < 0`, partition, age)
}

// FillArchive numbers and publishes so many records in each partition, of amount 1 and
// each a batch of its own, without a log or a truth to go with them.
func (w *World) FillArchive(batches int) {
	w.Helper()
	w.Exec(`
		INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
		SELECT partition, n, n, 30, ARRAY[now()], '{note}', '{amount}', '{""}', '{"{\"amount\": 1}"}', '{"{}"}'
		FROM unilog.partitions CROSS JOIN generate_series(1, $1::bigint) AS n`, batches)
	w.Exec(`UPDATE unilog.partitions SET next_offset = $1::bigint + 1, published_offset = $1`, batches)
	w.Exec(`ANALYZE unilog.batches`)
}
