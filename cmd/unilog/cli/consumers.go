package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/status"
)

// Consumers looks after the consumers that have registered.
type Consumers struct {
	List   ConsumersList   `cmd:"" help:"List the consumers that have registered."`
	Forget ConsumersForget `cmd:"" help:"Remove a consumer that is gone for good, so that nothing is kept for it."`
}

// ConsumersList lists those that keep their checkpoints in the database.
type ConsumersList struct {
	TaskFlags `embed:""`
}

// Run prints them.
func (c *ConsumersList) Run(ctx context.Context, p *Program) error {
	return c.do(ctx, p, writers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		status, err := status.Read(ctx, db, c.Schema, nil)
		if err != nil {
			return err
		}
		return printConsumers(os.Stdout, status.Consumers)
	})
}

// unknown says that there is no consumer of a name.
func (p *Program) unknown(name string) error {
	return fmt.Errorf("no consumer %s has registered: see `%s consumers list`", name, p.Name)
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

// ConsumersForget removes what is kept of a consumer.
type ConsumersForget struct {
	TaskFlags `embed:""`
	Name      string `arg:"" help:"The consumer. It must not be running."`
}

// Run fails if there is none of the name.
func (c *ConsumersForget) Run(ctx context.Context, p *Program) error {
	err := c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			err := consumer.In(c.Schema).Forget(ctx, tx, c.Name)
			if err == nil && p.Forget != nil {
				err = p.Forget(ctx, tx, c.Name)
			}
			return err
		})
	})
	switch {
	case errors.Is(err, consumer.ErrRunning):
		err = fmt.Errorf("%s is running, and would apply everything again: stop all of its processes first (one was seen within the last 2 s)", c.Name)
	case errors.Is(err, consumer.ErrUnknown):
		err = p.unknown(c.Name)
	}
	if err != nil {
		return err
	}
	if p.Forget == nil {
		fmt.Printf("%s is forgotten: its checkpoint and its dead letters are gone; what it has made of its records is its program's to remove\n", c.Name)
		return nil
	}
	fmt.Printf("%s is forgotten: %s, its checkpoint and its dead letters are gone\n", c.Name, p.State)
	return nil
}
