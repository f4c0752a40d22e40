package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// deadLettersCmd looks after the records that consumers have parked.
type deadLettersCmd struct {
	List    cli.DeadLettersList    `cmd:"" help:"List parked records."`
	Requeue cli.DeadLettersRequeue `cmd:"" help:"Let the consumer that runs apply parked records again."`
	Retry   deadLettersRetryCmd    `cmd:"" help:"Apply parked records again, in this process."`
	Discard cli.DeadLettersDiscard `cmd:"" help:"Give parked records up; the audit still counts them."`
}

type deadLettersRetryCmd struct {
	cli.Parked `embed:""`
}

// Run applies them as rides, and so none of another program's consumer.
func (c *deadLettersRetryCmd) Run(ctx context.Context, log *slog.Logger, p *cli.Program) error {
	state := rides.Consumer{Name: c.Consumer, Logger: log}
	return c.Each(ctx, p, "is applied", func(ctx context.Context, db *pgxpool.Pool, partition int, offset int64) error {
		if err := rides.OwnConsumer(ctx, db, c.Schema, c.Consumer); err != nil && !errors.Is(err, consumer.ErrUnknown) {
			return err
		}
		return consumer.In(c.Schema).RetryDeadLetter(ctx, db, c.Consumer, partition, offset, state.Handle)
	})
}
