package audit

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/postgres"
)

// ErrUnknownConsumer is returned for a consumer that has no checkpoint.
var ErrUnknownConsumer = errors.New("unilog: no consumer of that name has a checkpoint")

// Beginner begins a transaction: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

const (
	// The lock makes the consumer wait, and everyone else go on. A partition that
	// it has not registered for is not held, and need not be: what it applies of
	// it meanwhile changes the total and what is ahead by the same.
	// Index: checkpoints_pkey.
	sqlHoldConsumer = `SELECT FROM unilog.checkpoints WHERE name = $1 ORDER BY partition FOR UPDATE`

	// Its total is now that of all records, wherever it began. Index: checkpoints_pkey.
	sqlWhole = `UPDATE unilog.checkpoints SET began = 0 WHERE name = $1 AND began > 0`

	// Index: checkpoints_pkey; a row per partition. A consumer that is not new has
	// one already, or registers one at the same time, which this waits for.
	sqlRegisterAtHead = `
WITH registered AS (
    INSERT INTO unilog.checkpoints (name, partition, "offset")
    SELECT $1, partition, next_offset - 1 FROM unilog.partitions
    ON CONFLICT (name, partition) DO NOTHING
    RETURNING partition
)
SELECT (SELECT count(*) FROM registered) = (SELECT count(*) FROM unilog.partitions)`
)

// Reconcile sets a consumer's total to what the equation demands, while
// everything runs. It repairs a state that was damaged, or lacks what was before the
// consumer began, or what somebody let it pass over or apply again; what else the consumer
// made of its records it cannot know. It returns the balance as it was: the
// total has been corrected by its Difference.
//
// Handlers that keep the total in memory, rather than in the database, must be
// started again after it.
func (a Equation) Reconcile(ctx context.Context, db Beginner, name string) (Balance, error) {
	if err := a.Schema.Check(); err != nil {
		return Balance{}, fmt.Errorf("reconcile: Equation.Schema: %w", err)
	}
	var was Balance
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
		if err := bound(ctx, tx); err != nil {
			return err
		}
		was, err = a.reconcile(ctx, tx, name)
		return err
	})
	return was, err
}

// Bootstrap starts a new consumer at the log's head with the total that it
// would have if it had applied everything before, without reading any of it. It
// returns false, and changes nothing, if the consumer has a checkpoint already, in
// any partition.
func (a Equation) Bootstrap(ctx context.Context, db Beginner, name string) (bool, error) {
	if err := a.Schema.Check(); err != nil {
		return false, fmt.Errorf("bootstrap: Equation.Schema: %w", err)
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := bound(ctx, tx); err != nil {
			return err
		}
		created := false
		if err := tx.QueryRow(ctx, a.Schema.SQL(sqlRegisterAtHead), name).Scan(&created); err != nil {
			return fmt.Errorf("bootstrap %s: %w", name, err)
		}
		if !created {
			return errRegistered
		}
		_, err := a.reconcile(ctx, tx, name)
		return err
	})
	if errors.Is(err, errRegistered) {
		return false, nil
	}
	return err == nil, err
}

// bound gives a transaction the time that ctx has.
func bound(ctx context.Context, tx pgx.Tx) error {
	batch := new(pgx.Batch)
	postgres.Bound(ctx, batch)
	return tx.SendBatch(ctx, batch).Close()
}

// errRegistered takes back what was registered of a consumer that is not new.
var errRegistered = errors.New("the consumer has a checkpoint")

func (a Equation) reconcile(ctx context.Context, tx pgx.Tx, name string) (Balance, error) {
	if a.AddToTotal == "" {
		return Balance{}, errors.New("audit: Equation.AddToTotal is required")
	}
	tag, err := tx.Exec(ctx, a.Schema.SQL(sqlHoldConsumer), name)
	if err != nil {
		return Balance{}, fmt.Errorf("reconcile %s: %w", name, err)
	}
	if tag.RowsAffected() == 0 {
		return Balance{}, ErrUnknownConsumer
	}
	balances, err := a.Check(ctx, tx)
	if err != nil {
		return Balance{}, err
	}
	for _, b := range balances {
		if b.Consumer != name {
			continue
		}
		if _, err := tx.Exec(ctx, a.AddToTotal, name, b.Difference); err != nil {
			return Balance{}, fmt.Errorf("reconcile %s: %w", name, err)
		}
		if _, err := tx.Exec(ctx, a.Schema.SQL(sqlWhole), name); err != nil {
			return Balance{}, fmt.Errorf("reconcile %s: %w", name, err)
		}
		return b, nil
	}
	return Balance{}, ErrUnknownConsumer
}
