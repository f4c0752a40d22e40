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
)

const sqlInsertBarriers = `
INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
SELECT partition, next_offset - 1, next_offset - 1, octet_length($3), ARRAY[clock_timestamp()],
    ARRAY[$1::text], ARRAY[$2::text], ARRAY[''], ARRAY[$3::text::jsonb::text], ARRAY['{}']
FROM unilog.partitions`

// Barrier is what the entry holds that marks, in each partition, the place where
// the number of partitions changed.
type Barrier struct {
	Partitions int `json:"partitions"`
	// Offsets are those of the barrier, by partition.
	Offsets []int64 `json:"offsets"`
}

// barrierAction is the action of a barrier.
const barrierAction = "repartition"

// Insert puts the barrier into the archive, at the end of each partition. The
// transaction has taken the offsets, and the lock [locks.SQLNumbering].
func (b Barrier) Insert(ctx context.Context, tx pgx.Tx, schema unilog.Schema) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, schema.SQL(sqlInsertBarriers), barrierAction, unilog.ReservedObject, string(data))
	return err
}

// Of returns the barrier that an entry is, if it is one.
func Of(e *unilog.Entry) (b Barrier, ok bool) {
	if e.Object != unilog.ReservedObject || e.Action != barrierAction {
		return b, false
	}
	return b, json.Unmarshal(e.Data, &b) == nil
}
