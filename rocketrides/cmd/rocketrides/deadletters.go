package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// deadLettersCmd looks after the records that consumers have parked.
type deadLettersCmd struct {
	List    deadLettersListCmd    `cmd:"" help:"List parked records."`
	Retry   deadLettersRetryCmd   `cmd:"" help:"Apply parked records again."`
	Discard deadLettersDiscardCmd `cmd:"" help:"Give parked records up; the audit still counts them."`
}

type deadLettersListCmd struct {
	taskFlags `embed:""`
	Consumer  string `arg:"" optional:"" help:"Only this consumer's."`
}

func (c *deadLettersListCmd) Run(ctx context.Context) error {
	var letters []consumer.DeadLetter
	err := c.do(ctx, 0, func(ctx context.Context, db *pgxpool.Pool) (err error) {
		letters, err = consumer.DeadLetters(ctx, db, c.Consumer)
		return err
	})
	if err != nil || len(letters) == 0 {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "consumer\tpartition\toffset\tparked\trecord\treason")
	for _, l := range letters {
		reason, _, _ := strings.Cut(l.Reason, "\n")
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s %s %.60s\t%s\n", l.Consumer, l.Partition, l.Offset, l.ParkedAt.Format(time.DateTime), l.Action, l.Object, l.Data, reason)
	}
	return w.Flush()
}

// parked names records by consumer, partition and offset.
type parked struct {
	taskFlags `embed:""`
	Consumer  string  `arg:"" help:"The consumer that parked them."`
	Partition int     `help:"Their partition, as listed."`
	Offsets   []int64 `arg:"" help:"Their offsets, as listed."`
}

// each does something to every record, and says so; it stops at the first error.
func (p *parked) each(ctx context.Context, done string, do func(ctx context.Context, db *pgxpool.Pool, offset int64) error) error {
	return p.do(ctx, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		for _, offset := range p.Offsets {
			err := do(ctx, db, offset)
			if errors.Is(err, consumer.ErrNoDeadLetter) {
				return fmt.Errorf("%s has parked no record at offset %d of partition %d: see `rocketrides deadletters list`", p.Consumer, offset, p.Partition)
			}
			if err != nil {
				return fmt.Errorf("offset %d: %w", offset, err)
			}
			fmt.Printf("%s: offset %d %s\n", p.Consumer, offset, done)
		}
		return nil
	})
}

type deadLettersRetryCmd struct{ parked }

// Run applies them as rides, and so none of another program's consumer.
func (c *deadLettersRetryCmd) Run(ctx context.Context, log *slog.Logger) error {
	state := rides.Consumer{Name: c.Consumer, Logger: log}
	return c.each(ctx, "is applied", func(ctx context.Context, db *pgxpool.Pool, offset int64) error {
		if err := rides.OwnConsumer(ctx, db, c.Consumer); err != nil && !errors.Is(err, consumer.ErrUnknown) {
			return err
		}
		return consumer.RetryDeadLetter(ctx, db, c.Consumer, c.Partition, offset, state.Handle)
	})
}

type deadLettersDiscardCmd struct{ parked }

func (c *deadLettersDiscardCmd) Run(ctx context.Context) error {
	return c.each(ctx, "is discarded", func(ctx context.Context, db *pgxpool.Pool, offset int64) error {
		return consumer.DiscardDeadLetter(ctx, db, c.Consumer, c.Partition, offset)
	})
}
