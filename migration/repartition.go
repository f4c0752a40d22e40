package migration

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/barrier"
)

// MaxPartitions is the most partitions that a log may have.
const MaxPartitions = 1024

const (
	// After SQLLockHeads, whose snapshot may be older than a repartition that it has
	// waited for.
	sqlHoldHeads = `SELECT next_offset, active FROM log_partitions ORDER BY partition FOR UPDATE`

	sqlAddPartitions = `
INSERT INTO log_partitions (partition, log_id)
SELECT n, (SELECT log_id FROM log_partitions WHERE partition = 0)
FROM generate_series((SELECT count(*) FROM log_partitions), $1::integer - 1) AS n`

	// Consumers and deliverers that are not running now must not miss what is kept
	// for them.
	sqlRegisterConsumers = `
INSERT INTO checkpoints (name, partition, outside, log_id)
SELECT name, partition, outside, log_id
FROM (
    SELECT name, bool_or(outside) AS outside, max(log_id) FILTER (WHERE outside) AS log_id
    FROM checkpoints GROUP BY name
) AS c CROSS JOIN (SELECT partition FROM log_partitions) AS p
ON CONFLICT (name, partition) DO NOTHING`

	// A new epoch ends each term, in which the leader knows the old number.
	sqlActivate = `UPDATE log_partitions SET active = partition < $1, epoch = epoch + 1, next_offset = next_offset + $2`
)

// Beginner begins a transaction: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
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
	if partitions < 1 || partitions > MaxPartitions {
		return 0, fmt.Errorf("unilog: the number of partitions is %d: it must be from 1 to %d", partitions, MaxPartitions)
	}
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		before, err = repartition(ctx, tx, partitions)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("change the number of partitions: %w", err)
	}
	return before, nil
}

func repartition(ctx context.Context, tx pgx.Tx, partitions int) (before int, err error) {
	if _, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '`+archive.LockPatienceUrgent+`'`); err != nil {
		return 0, err
	}
	if _, err := tx.Exec(ctx, archive.SQLLockHeads); err != nil {
		return 0, err
	}
	rows, _ := tx.Query(ctx, sqlHoldHeads)
	type head struct {
		Next   int64
		Active bool
	}
	heads, err := pgx.CollectRows(rows, pgx.RowToStructByPos[head])
	if err != nil {
		return 0, err
	}
	used := false
	for _, h := range heads {
		used = used || h.Next > 1
		if h.Active {
			before++
		}
	}
	if before == partitions {
		return before, nil
	}
	for len(heads) < partitions {
		heads = append(heads, head{Next: 1})
	}
	if _, err := tx.Exec(ctx, sqlAddPartitions, partitions); err != nil {
		return 0, err
	}
	var consumers bool
	if err := tx.QueryRow(ctx, `SELECT to_regclass('checkpoints') IS NOT NULL`).Scan(&consumers); err != nil {
		return 0, err
	}
	if consumers {
		if _, err := tx.Exec(ctx, sqlRegisterConsumers); err != nil {
			return 0, err
		}
	}
	if !used { // there is no order yet to keep
		_, err = tx.Exec(ctx, sqlActivate, partitions, 0)
		return before, err
	}
	if _, err = tx.Exec(ctx, sqlActivate, partitions, 1); err != nil {
		return 0, err
	}
	b := barrier.Barrier{Partitions: partitions}
	for _, h := range heads {
		b.Offsets = append(b.Offsets, h.Next)
	}
	return before, b.Insert(ctx, tx)
}
