package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
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

// Index: checkpoints_pkey.
const sqlIsKnown = `SELECT $1 = '' OR EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1)`

// Run prints nothing if there are none, and fails if there is no consumer of the name.
func (c *DeadLettersList) Run(ctx context.Context, p *Program) error {
	var letters []consumer.DeadLetter
	err := c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) (err error) {
		letters, err = consumer.In(c.Schema).DeadLetters(ctx, db, c.Consumer)
		known := true
		if err == nil && len(letters) == 0 {
			err = db.QueryRow(ctx, c.Schema.SQL(sqlIsKnown), c.Consumer).Scan(&known)
		}
		if err == nil && !known {
			err = p.unknown(c.Consumer)
		}
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
				return c.notParked(p, []int64{offset})
			}
			if err != nil {
				return fmt.Errorf("offset %d: %w", offset, err)
			}
			fmt.Printf("%s: offset %d %s\n", c.Consumer, offset, done)
		}
		return nil
	})
}

// notParked says which offsets no record is parked at.
func (c *Parked) notParked(p *Program, offsets []int64) error {
	texts := make([]string, len(offsets))
	for i, offset := range offsets {
		texts[i] = fmt.Sprint(offset)
	}
	at := "offset"
	if len(offsets) > 1 {
		at = "offsets"
	}
	return fmt.Errorf("%s has parked no record at %s %s of partition %d: see `%s deadletters list`", c.Consumer, at, listed(texts), c.Partition, p.Name)
}

// listed joins words as a sentence does.
func listed(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}

// DeadLettersDiscard gives parked records up.
type DeadLettersDiscard struct {
	Parked `embed:""`
}

// Run discards all of them, or none if one is not parked.
func (c *DeadLettersDiscard) Run(ctx context.Context, p *Program) error {
	offsets := slices.Compact(slices.Sorted(slices.Values(c.Offsets)))
	err := c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return c.discard(ctx, p, tx, offsets) })
	})
	if err != nil {
		return err
	}
	for _, offset := range offsets {
		fmt.Printf("%s: offset %d is discarded\n", c.Consumer, offset)
	}
	return nil
}

func (c *DeadLettersDiscard) discard(ctx context.Context, p *Program, tx pgx.Tx, offsets []int64) error {
	var unknown []int64
	for _, offset := range offsets {
		err := consumer.In(c.Schema).DiscardDeadLetter(ctx, tx, c.Consumer, c.Partition, offset)
		switch {
		case errors.Is(err, consumer.ErrNoDeadLetter):
			unknown = append(unknown, offset)
		case err != nil:
			return fmt.Errorf("offset %d: %w", offset, err)
		}
	}
	switch {
	case len(unknown) == 0:
		return nil
	case len(offsets) == 1:
		return c.notParked(p, unknown)
	}
	return fmt.Errorf("nothing is discarded: %w", c.notParked(p, unknown))
}
