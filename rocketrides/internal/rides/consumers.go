package rides

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	// Each served by its table's primary key.
	deleteConsumerSQL = `
		WITH checkpoint AS (
			DELETE FROM checkpoints WHERE name = $1
		), letters AS (
			DELETE FROM dead_letters WHERE consumer = $1
		), members AS (
			DELETE FROM consumer_members WHERE name = $1
		), leases AS (
			DELETE FROM consumer_leases WHERE name = $1
		)
		DELETE FROM consumer_states WHERE name = $1`
	lockConsumerSQL = `SELECT FROM checkpoints WHERE name = $1 FOR UPDATE`
)

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
