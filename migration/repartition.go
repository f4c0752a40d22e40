package migration

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
	"github.com/rocketrides/unilog/internal/locks"
)

// MaxPartitions is the most partitions that a log may have.
const MaxPartitions = 1024

const (
	// Nobody numbers meanwhile, since the transaction has the lock for it. Consumers and
	// deliverers that are not running now must not miss what is kept for them.
	sqlRegisterConsumers = `
INSERT INTO unilog.checkpoints (name, partition, outside, log_id, paused_at, paused_by)
SELECT name, partition, outside, log_id, paused_at, paused_by
FROM (
    SELECT name, bool_or(outside) AS outside, max(log_id) FILTER (WHERE outside) AS log_id,
        min(paused_at) AS paused_at, min(paused_by) AS paused_by
    FROM unilog.checkpoints GROUP BY name
) AS c CROSS JOIN unilog.partitions
ON CONFLICT (name, partition) DO NOTHING`

	sqlAddPartitions = `
INSERT INTO unilog.partitions (partition)
SELECT n FROM generate_series((SELECT count(*) FROM unilog.partitions), $1::integer - 1) AS n`

	// A new epoch ends each term, in which the streamer knows the old number.
	sqlSetPartitions = `UPDATE unilog.log SET partitions = $1, epoch = epoch + 1`

	sqlAdvanceHeads = `UPDATE unilog.partitions SET epoch = epoch + 1, next_offset = next_offset + $1`

	sqlNext = `SELECT next_offset FROM unilog.partitions ORDER BY partition`

	// Wake the streamers that wait.
	sqlWakeAll = `SELECT pg_notify('unilog:staged', ''), pg_notify('unilog:numbered', '')`
)

// Beginner begins a transaction: a *pgxpool.Pool or a *pgx.Conn.
type Beginner interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// Repartition changes the number of the log's partitions, from 1 to
// [MaxPartitions], while everything runs, and returns how many there were. It is
// one short transaction.
//
// Records of a key may then go to another partition than before. Consumers keep
// their order all the same: in each partition an entry marks the place, a barrier
// that none of them passes before it has come to all the others.
//
// A partition that is no longer active keeps its records until nobody needs them.
func Repartition(ctx context.Context, db Beginner, partitions int) (before int, err error) {
	return In("").Repartition(ctx, db, partitions)
}

// Repartition is the function [Repartition] in a schema.
func (in In) Repartition(ctx context.Context, db Beginner, partitions int) (before int, err error) {
	if partitions < 1 || partitions > MaxPartitions {
		return 0, fmt.Errorf("unilog: the number of partitions is %d: it must be from 1 to %d", partitions, MaxPartitions)
	}
	if err := unilog.Schema(in).Check(); err != nil {
		return 0, err
	}
	// Not the database's default: what was committed before the lock was given must be seen.
	err = pgx.BeginTxFunc(ctx, db, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		before, err = repartition(ctx, tx, unilog.Schema(in), partitions)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("change the number of partitions: %w", err)
	}
	return before, nil
}

// sqlUnbounded takes back what would end statements, or the transaction. Not every Postgres
// has all of these settings.
const sqlUnbounded = `
SELECT set_config(name, '0', true) FROM pg_settings
WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')`

// lockPatience bounds the wait for the streamer that numbers.
const lockPatience = "3s"

func repartition(ctx context.Context, tx pgx.Tx, schema unilog.Schema, partitions int) (before int, err error) {
	exec := func(sql string, args ...any) {
		if err == nil {
			_, err = tx.Exec(ctx, schema.SQL(sql), args...)
		}
	}
	exec(sqlUnbounded)
	exec(`SET LOCAL lock_timeout = '` + lockPatience + `'`)
	exec(locks.SQLNumbering)
	if err != nil {
		return 0, err
	}
	if err := tx.QueryRow(ctx, schema.SQL(`SELECT partitions FROM unilog.log`)).Scan(&before); err != nil || before == partitions {
		return before, err
	}
	exec(sqlAddPartitions, partitions)
	exec(sqlSetPartitions, partitions)
	if err != nil {
		return 0, err
	}
	var consumers bool
	if err := tx.QueryRow(ctx, schema.SQL(`SELECT to_regclass('unilog.checkpoints') IS NOT NULL`)).Scan(&consumers); err != nil {
		return 0, err
	}
	if consumers {
		exec(sqlRegisterConsumers)
	}
	if err == nil {
		err = placeBarrier(ctx, tx, schema, partitions)
	}
	exec(sqlWakeAll)
	return before, err
}

// placeBarrier puts a barrier at the end of each partition, if there is an order to
// keep.
func placeBarrier(ctx context.Context, tx pgx.Tx, schema unilog.Schema, partitions int) error {
	b := barrier.Barrier{Partitions: partitions}
	rows, _ := tx.Query(ctx, schema.SQL(sqlNext))
	var err error
	if b.Offsets, err = pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil {
		return err
	}
	used := slices.Max(b.Offsets) > 1
	taken := 0
	if used {
		taken = 1
	}
	if _, err := tx.Exec(ctx, schema.SQL(sqlAdvanceHeads), taken); err != nil || !used {
		return err
	}
	return b.Insert(ctx, tx, schema)
}
