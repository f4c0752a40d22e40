package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// sqlTakeRequeued holds the checkpoint's row, as when it is advanced. Index:
// checkpoints_pkey, dead_letters_pkey.
const sqlTakeRequeued = `
WITH bounded AS MATERIALIZED (
    SELECT set_config('idle_in_transaction_session_timeout', $4, true)
), held AS MATERIALIZED (
    SELECT "offset" FROM unilog.checkpoints WHERE name = $1 AND partition = $2 AND paused_at IS NULL FOR UPDATE
)
DELETE FROM unilog.dead_letters AS d USING held, bounded
WHERE d.consumer = $1 AND d.partition = $2 AND d."offset" = $3 AND d."offset" <= held."offset"
    AND d.requeued_at IS NOT NULL AND d.discarded_at IS NULL`

// errNotRequeued says that a dead letter is no longer to be applied again: another process
// has done it, or a person has decided otherwise.
var errNotRequeued = errors.New("the dead letter is no longer to be applied again")

// applyRequeued applies the dead letters of the partition that a person has requeued, each
// in a transaction with its removal. One that is rejected again stays. It returns how many
// were applied.
func (c *partitionConsumer) applyRequeued(ctx context.Context) (n int, err error) {
	bounded, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	letters, err := reader.Requeued(bounded, c.cfg.DB, c.cfg.Schema, c.cfg.Name, c.partition)
	if err != nil {
		return 0, err
	}
	done := 0
	for _, e := range letters {
		why, err := c.applyParked(ctx, e)
		if why != nil {
			err = errors.Join(c.rejectAgain(ctx, e.Offset, why), unlessReturned(why))
			done++
		}
		switch {
		case errors.Is(err, errNotRequeued):
		case err != nil:
			return n, err
		case why == nil:
			n, done = n+1, done+1
			c.log.Info("applied a record that was parked", "offset", e.Offset)
		}
	}
	c.requeued = len(letters) == reader.RequeuedMost && done > 0 // there may be more
	return n, nil
}

// applyParked applies a dead letter and removes it. It returns why it is to stay if the
// handler rejects it, or takes too long: nothing waits for it to be tried again.
func (c *partitionConsumer) applyParked(ctx context.Context, e unilog.Entry) (why, err error) {
	var begin pgx.Batch
	begin.BeginTx(pgx.TxOptions{})
	begin.Queue(c.cfg.Schema.SQL(sqlTakeRequeued), c.cfg.Name, c.partition, e.Offset, fmt.Sprint(c.cfg.silence.Milliseconds()))
	err = c.transact(ctx, &begin, errNotRequeued, func(ctx context.Context, tx pgx.Tx) error {
		if !c.asks(&e) {
			return &rejection{reader.ErrNotAsked}
		}
		hung := fmt.Errorf("%w (partition %d, offset %d, which was parked)", errHung, c.partition, e.Offset)
		err := c.condition.hang.Call(ctx, c.cfg.HandlerTimeout+c.cfg.grace, hung, func() error { return c.handle(ctx, tx, []unilog.Entry{e}) })
		if ctx.Err() == nil && (errors.Is(err, errHung) || errors.Is(err, context.DeadlineExceeded)) {
			why = err
		}
		return err
	})
	if rejection := new(rejection); errors.As(err, &rejection) {
		why = rejection.err
	}
	return why, err
}

// unlessReturned returns the error of a handler that is still at work.
func unlessReturned(err error) error {
	if errors.Is(err, errHung) {
		return err
	}
	return nil
}

func (c *partitionConsumer) rejectAgain(ctx context.Context, offset int64, why error) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := reader.RejectAgain(ctx, c.cfg.DB, c.cfg.Schema, c.cfg.Name, c.partition, offset, why); err != nil {
		return postgres.Reconnect(c.cfg.DB, err)
	}
	c.log.Error("record rejected again: it stays in dead_letters", "offset", offset, "err", why)
	return nil
}
