package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

type reconcileCmd struct {
	cli.TaskFlags `embed:""`
	Name          string `arg:"" help:"The consumer."`
}

// Help follows the flags' own help.
func (*reconcileCmd) Help() string {
	return "Sets the consumer's total to what the audit demands. Everything may go on running."
}

func (c *reconcileCmd) Run(ctx context.Context, p *cli.Program) error {
	var was audit.Balance
	err := c.Do(ctx, p, 0, func(ctx context.Context, db *pgxpool.Pool) (err error) {
		if err := rides.OwnConsumer(ctx, db, c.Schema, c.Name); err != nil {
			return err
		}
		was, err = rides.AuditIn(c.Schema).Reconcile(ctx, db, c.Name)
		return err
	})
	switch {
	case errors.Is(err, consumer.ErrUnknown), errors.Is(err, audit.ErrUnknownConsumer):
		return fmt.Errorf("no consumer %s has registered: see `rocketrides consumers list`", c.Name)
	case err != nil:
		return err
	case was.Agrees && was.Began == 0:
		fmt.Printf("%s agreed already: its total is %s m\n", c.Name, was.Total)
	default:
		fmt.Printf("%s was at %s m; corrected by %s m\n", c.Name, was.Total, was.Difference)
	}
	return nil
}
