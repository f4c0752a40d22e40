// Package barrier keeps the records of a key in order when the number of partitions
// changes. A barrier is an entry of the log's own at the end of each partition; the
// records after it may belong to keys that were in another partition before. A reader
// passes it only when it has come to the barriers of all partitions:
//
//	partition 0   1 2 3 4 | 6 7 …   waits at |, offset 5,
//	partition 1   1 2 | 4 5 …       until it has applied 2 here, too
package barrier

import (
	"context"
	"encoding/json"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

const sqlInsertBarriers = `
INSERT INTO log_records (partition, "offset", size, staged_at, action, object, key, data, headers)
SELECT partition, next_offset - 1, octet_length($3), clock_timestamp(), $1, $2, '', $3::text::jsonb, '{}'
FROM log_partitions`

// Barrier is what the entry holds that marks, in each partition, the place where
// the number of partitions changed.
type Barrier struct {
	Partitions int `json:"partitions"`
	// Offsets are those of the barrier, by partition.
	Offsets []int64 `json:"offsets"`
}

// barrierAction is the action of a barrier.
const barrierAction = "repartition"

// Insert puts the barrier into the archive, at the end of each partition.
func (b Barrier) Insert(ctx context.Context, tx pgx.Tx) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	var term unilog.Term // in this transaction nobody else can begin one
	if err := tx.QueryRow(ctx, archive.SQLLockHead, term.Partition).Scan(&term.Epoch); err != nil {
		return err
	}
	all, err := archive.ListChunks(ctx, tx)
	if err != nil {
		return err
	}
	for partition, offset := range b.Offsets {
		cs := all[partition]
		if err := cs.EnsureRoom(ctx, tx, term, partition, offset-1, 1, archive.ChunkRecords); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, sqlInsertBarriers, barrierAction, unilog.ReservedObject, string(data)); err != nil {
		return err
	}
	// Wake the leaders that sleep.
	_, err = tx.Exec(ctx, `SELECT pg_notify('staged_log_records', ''), pg_notify('log_records', '')`)
	return err
}

// Of returns the barrier that an entry is, if it is one.
func Of(e *unilog.Entry) (b Barrier, ok bool) {
	if e.Object != unilog.ReservedObject || e.Action != barrierAction {
		return b, false
	}
	return b, json.Unmarshal(e.Data, &b) == nil
}
