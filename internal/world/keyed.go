package world

import (
	"encoding/json"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/migration"
)

func (w *World) Repartition(partitions, before int) {
	w.Helper()
	was, err := migration.Repartition(w.Ctx, w.DB, partitions)
	for postgres.IsLockTimeout(err) { // whoever numbers is slow
		was, err = migration.Repartition(w.Ctx, w.DB, partitions)
	}
	w.Must(err)
	w.WantCount("partitions before", was, before)
}

// keyed is a record of a key, with its number among those of the key.
func keyed(key string, n int) unilog.Record {
	data, _ := json.Marshal(map[string]any{"amount": 1, "key": key, "n": n})
	return unilog.Record{Action: "note", Object: "amount", Key: key, Data: data}
}

// CommitKeyed stages records of several keys, in turn, in one transaction.
func (w *World) CommitKeyed(first, last int, keys ...string) {
	w.Helper()
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		for n := first; n <= last; n++ {
			for _, key := range keys {
				if _, err := tx.Exec(w.Ctx, `INSERT INTO amounts (amount) VALUES (1)`); err != nil {
					return err
				}
				if err := unilog.Stage(w.Ctx, tx, keyed(key, n)); err != nil {
					return err
				}
			}
		}
		return nil
	}))
}

// ReadPartition returns what the log holds of a partition.
func (w *World) ReadPartition(partition int) (entries []unilog.Entry) {
	w.Helper()
	for at := (unilog.Cursor{}); ; {
		some, err := w.Log.Read(w.Ctx, partition, at, 1000, 0)
		w.Must(err)
		if len(some) == 0 {
			return entries
		}
		last := some[len(some)-1]
		entries, at = append(entries, some...), unilog.Cursor{Offset: last.Offset, Position: last.Position}
	}
}

func Keys(n int) (keys []string) {
	for i := range n {
		keys = append(keys, "key-"+strconv.Itoa(i)+"ü")
	}
	return keys
}

// KeyOf returns a key of a partition, in a log of so many.
func KeyOf(partition, partitions int) string {
	for i := 0; ; i++ {
		if key := "key-" + strconv.Itoa(i); unilog.PartitionOf(key, partitions) == partition {
			return key
		}
	}
}
