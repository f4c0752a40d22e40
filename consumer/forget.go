package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

var (
	// ErrUnknown is returned for a consumer that has no checkpoint.
	ErrUnknown = errors.New("unilog: no consumer of that name has a checkpoint")
	// ErrRunning is returned for a consumer that must not be running, and is.
	ErrRunning = errors.New("unilog: a process of this consumer was seen within the last 2 s: stop all of them first")
)

const (
	// The lock makes a consumer that runs wait, so that nothing of it is left.
	// Index: checkpoints_pkey.
	sqlHoldAll = `SELECT FROM unilog.checkpoints WHERE name = $1 ORDER BY partition FOR UPDATE`

	// Index: members_pkey.
	sqlRunning = `SELECT EXISTS (SELECT FROM unilog.members AS m WHERE name = $1 AND ` + sqlAlive + `)`

	// Each served by its table's primary key.
	sqlForget = `
WITH letters AS (
    DELETE FROM unilog.dead_letters WHERE consumer = $1
), members AS (
    DELETE FROM unilog.members WHERE name = $1
), leases AS (
    DELETE FROM unilog.leases WHERE name = $1
)
DELETE FROM unilog.checkpoints WHERE name = $1`
)

// Forget removes all that the database keeps of a consumer or a deliverer that is
// gone for good: its checkpoints, its dead letters and its leases. Then nothing is
// kept in the archive for it any more. It returns [ErrUnknown] for one that has no
// checkpoint, and changes nothing then. Removing what the consumer itself has written
// is its program's business: in the same transaction, if db is one.
//
// The consumer must not be running: it would begin anew and apply everything a second
// time. Forget returns [ErrRunning] if a process of it is in Run. A deliverer, and who
// calls RunOnce, it cannot see.
func Forget(ctx context.Context, db postgres.Beginner, name string) error {
	return In("").Forget(ctx, db, name)
}

// Forget is the function [Forget] in a schema.
func (in In) Forget(ctx context.Context, db postgres.Beginner, name string) error {
	sql := unilog.Schema(in).SQL
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		// A process that runs and is not seen would apply everything again.
		if err := postgres.CheckVisible(ctx, tx, unilog.Schema(in).Name(), "checkpoints", "members", "leases", "dead_letters"); err != nil {
			return err
		}
		held, err := tx.Exec(ctx, sql(sqlHoldAll), name)
		if err != nil {
			return err
		}
		if held.RowsAffected() == 0 {
			return ErrUnknown
		}
		var running bool
		if err := tx.QueryRow(ctx, sql(sqlRunning), name).Scan(&running); err != nil {
			return err
		}
		if running {
			return ErrRunning
		}
		_, err = tx.Exec(ctx, sql(sqlForget), name)
		return err
	})
	if err != nil {
		return fmt.Errorf("forget consumer %s: %w", name, err)
	}
	return nil
}
