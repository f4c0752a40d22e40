package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/consumer"
)

// DeadLetters looks after the records that consumers have parked. To apply one again
// takes the consumer's own program, see [Parked].
type DeadLetters struct {
	List    DeadLettersList    `cmd:"" help:"List parked records."`
	Discard DeadLettersDiscard `cmd:"" help:"Give parked records up; the audit still counts them."`
}

// DeadLettersList lists them.
type DeadLettersList struct {
	TaskFlags `embed:""`
	Consumer  string `arg:"" optional:"" help:"Only this consumer's."`
}

// Run prints nothing if there are none.
func (c *DeadLettersList) Run(ctx context.Context, p *Program) error {
	var letters []consumer.DeadLetter
	err := c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) (err error) {
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

// Parked names records by consumer, partition and offset.
type Parked struct {
	TaskFlags `embed:""`
	Consumer  string  `arg:"" help:"The consumer that parked them."`
	Partition int     `help:"Their partition, as listed."`
	Offsets   []int64 `arg:"" help:"Their offsets, as listed."`
}

// Each does something to every record, and says that it is done; it stops at the first
// error. That there is no such record do says by [consumer.ErrNoDeadLetter].
func (c *Parked) Each(ctx context.Context, p *Program, done string, do func(ctx context.Context, db *pgxpool.Pool, offset int64) error) error {
	return c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		for _, offset := range c.Offsets {
			err := do(ctx, db, offset)
			if errors.Is(err, consumer.ErrNoDeadLetter) {
				return fmt.Errorf("%s has parked no record at offset %d of partition %d: see `%s deadletters list`", c.Consumer, offset, c.Partition, p.Name)
			}
			if err != nil {
				return fmt.Errorf("offset %d: %w", offset, err)
			}
			fmt.Printf("%s: offset %d %s\n", c.Consumer, offset, done)
		}
		return nil
	})
}

// DeadLettersDiscard gives parked records up.
type DeadLettersDiscard struct {
	Parked `embed:""`
}

// Run discards one after the other.
func (c *DeadLettersDiscard) Run(ctx context.Context, p *Program) error {
	return c.Each(ctx, p, "is discarded", func(ctx context.Context, db *pgxpool.Pool, offset int64) error {
		return consumer.DiscardDeadLetter(ctx, db, c.Consumer, c.Partition, offset)
	})
}
