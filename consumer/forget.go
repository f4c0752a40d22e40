package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/postgres"
)

// ErrUnknown is returned for a consumer that has no checkpoint.
var ErrUnknown = errors.New("unilog: no consumer of that name has a checkpoint")

const (
	// The lock makes a consumer that runs wait, so that nothing of it is left.
	// Index: checkpoints_pkey.
	sqlHoldAll = `SELECT FROM checkpoints WHERE name = $1 ORDER BY partition FOR UPDATE`

	// Each served by its table's primary key.
	sqlForget = `
WITH letters AS (
    DELETE FROM dead_letters WHERE consumer = $1
), members AS (
    DELETE FROM consumer_members WHERE name = $1
), leases AS (
    DELETE FROM consumer_leases WHERE name = $1
)
DELETE FROM checkpoints WHERE name = $1`
)

// Forget removes all that the database keeps of a consumer or a deliverer that is
// gone for good: its checkpoints, its dead letters and its leases. Then nothing is
// kept in the archive for it any more. It returns [ErrUnknown] for one that has no
// checkpoint, and changes nothing then. Removing what the consumer itself has written
// is its program's business: in the same transaction, if db is one.
//
// The consumer must not be running. One that is begins anew, from the first record
// that the archive has.
func Forget(ctx context.Context, db postgres.Beginner, name string) error {
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		held, err := tx.Exec(ctx, sqlHoldAll, name)
		if err != nil {
			return err
		}
		if held.RowsAffected() == 0 {
			return ErrUnknown
		}
		_, err = tx.Exec(ctx, sqlForget, name)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget consumer %s: %w", name, err)
	}
	return nil
}
