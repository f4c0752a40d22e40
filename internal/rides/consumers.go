package rides

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// ConsumerStatus says how far a consumer has come.
type ConsumerStatus struct {
	Name        string
	Checkpoint  int64
	Lag         int64 // in records
	DeadLetters int64
	Silent      time.Duration // since it last showed that it is alive
}

const (
	// A handful of rows, read whole.
	selectConsumersSQL = `
		SELECT c.name, c."offset", p.next_offset - 1 - c."offset",
			(SELECT count(*) FROM dead_letters AS d WHERE d.consumer = c.name AND d.discarded_at IS NULL),
			clock_timestamp() - c.updated_at
		FROM checkpoints AS c JOIN log_partitions AS p USING (partition)
		ORDER BY c.name, c.partition`

	// Served by checkpoints_pkey, dead_letters_pkey and consumer_states_pkey.
	deleteConsumerSQL = `
		WITH checkpoint AS (
			DELETE FROM checkpoints WHERE name = $1
		), letters AS (
			DELETE FROM dead_letters WHERE consumer = $1
		)
		DELETE FROM consumer_states WHERE name = $1`
	lockConsumerSQL = `SELECT FROM checkpoints WHERE name = $1 FOR UPDATE`
)

// Consumers lists the consumers that have registered.
func Consumers(ctx context.Context, db interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
},
) ([]ConsumerStatus, error) {
	rows, err := db.Query(ctx, selectConsumersSQL)
	if err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	consumers, err := pgx.CollectRows(rows, pgx.RowToStructByPos[ConsumerStatus])
	if err != nil {
		return nil, fmt.Errorf("list consumers: %w", err)
	}
	return consumers, nil
}

// ForgetConsumer removes a consumer's checkpoint, total and dead letters, and
// returns whether there was one. If it is running all the same, it begins anew.
func ForgetConsumer(ctx context.Context, tx pgx.Tx, name string) (bool, error) {
	tag, err := tx.Exec(ctx, lockConsumerSQL, name)
	if err == nil && tag.RowsAffected() > 0 {
		_, err = tx.Exec(ctx, deleteConsumerSQL, name)
	}
	if err != nil {
		return false, fmt.Errorf("forget consumer %s: %w", name, err)
	}
	return tag.RowsAffected() > 0, nil
}
