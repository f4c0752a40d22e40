package unilog_test

import (
	"encoding/json"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

func (w *world) repartition(partitions, before int) {
	w.Helper()
	was, err := unilog.Repartition(w.ctx, w.db, partitions)
	w.must(err)
	w.wantCount("partitions before", was, before)
}

// keyed is a record of a key, with its number among those of the key.
func keyed(key string, n int) unilog.Record {
	data, _ := json.Marshal(map[string]any{"amount": 1, "key": key, "n": n})
	return unilog.Record{Action: "note", Object: "amount", Key: key, Data: data}
}

// commitKeyed stages records of several keys, in turn, in one transaction.
func (w *world) commitKeyed(first, last int, keys ...string) {
	w.Helper()
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		for n := first; n <= last; n++ {
			for _, key := range keys {
				if _, err := tx.Exec(w.ctx, `INSERT INTO amounts (amount) VALUES (1)`); err != nil {
					return err
				}
				if err := unilog.Stage(w.ctx, tx, keyed(key, n)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// readPartition returns what the log holds of a partition.
func (w *world) readPartition(partition int) (entries []unilog.Entry) {
	w.Helper()
	for at := (unilog.Cursor{}); ; {
		some, err := w.log.Read(w.ctx, partition, at, 1000, 0)
		w.must(err)
		if len(some) == 0 {
			return entries
		}
		last := some[len(some)-1]
		entries, at = append(entries, some...), unilog.Cursor{Offset: last.Offset, Position: last.Position}
	}
}

func keys(n int) (keys []string) {
	for i := range n {
		keys = append(keys, "key-"+strconv.Itoa(i)+"ü")
	}
	return keys
}
