package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/status"
)

// consumersCmd looks after the consumers that have registered.
type consumersCmd struct {
	List   consumersListCmd   `cmd:"" help:"List the consumers that have registered."`
	Forget consumersForgetCmd `cmd:"" help:"Remove a consumer that is gone for good, so that nothing is kept for it."`
}

type consumersListCmd struct {
	taskFlags `embed:""`
}

func (c *consumersListCmd) Run(ctx context.Context) error {
	return c.do(ctx, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		status, err := status.Read(ctx, db, nil)
		if err != nil {
			return err
		}
		return printConsumers(os.Stdout, status.Consumers)
	})
}

func printConsumers(out io.Writer, consumers []status.Consumer) error {
	if len(consumers) == 0 {
		_, err := fmt.Fprintln(out, "no consumer has registered yet")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "consumer\tcheckpoint\tlag\tlag (s)\tdead letters\tlast seen\tprocesses\t")
	for _, c := range consumers {
		seen := time.Duration(c.Silent * float64(time.Second)).Round(time.Second)
		processes := "-" // not known, or none
		if c.Processes > 0 {
			processes = fmt.Sprint(c.Processes)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%d\t%v ago\t%s\t\n", c.Name, c.Checkpoint, c.Lag, c.LagSeconds, c.DeadLetters, seen, processes)
	}
	return w.Flush()
}

type consumersForgetCmd struct {
	taskFlags `embed:""`
	Name      string `arg:"" help:"The consumer. It must not be running."`
}

func (c *consumersForgetCmd) Run(ctx context.Context) error {
	err := c.do(ctx, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		return rides.ForgetConsumer(ctx, db, c.Name)
	})
	if errors.Is(err, consumer.ErrUnknown) {
		err = fmt.Errorf("no consumer %s has registered: see `rocketrides consumers list`", c.Name)
	}
	if err != nil {
		return err
	}
	fmt.Printf("%s is forgotten: its total, its checkpoint and its dead letters are gone\n", c.Name)
	return nil
}
