package cli

import (
	"cmp"
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

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/postgres"
)

// DeadLetters looks after the records that consumers have parked. What applies one again is
// the consumer's own process, or its program, see [Parked].
type DeadLetters struct {
	List    DeadLettersList    `cmd:"" help:"List parked records."`
	Requeue DeadLettersRequeue `cmd:"" help:"Let the consumer that runs apply parked records again."`
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
			err = p.unknownOf(ctx, db, c.Schema, c.Consumer)
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
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s %.60s\t%s\n", printable(l.Consumer), l.Partition, l.Offset, l.ParkedAt.Format(time.DateTime),
			printable(l.Action+" "+l.Object), printable(payload(&l.Record)), printable(reason))
	}
	return w.Flush()
}

// payload is what a record says, as a person can read it: of a body only what it is.
func payload(r *unilog.Record) string {
	if r.ContentType == "" {
		return string(r.Data)
	}
	return fmt.Sprintf("%s, %d bytes", r.ContentType, len(r.Body))
}

// Parked names records by consumer, partition and offset, or all of a consumer.
type Parked struct {
	TaskFlags `embed:""`
	Consumer  string  `arg:"" help:"The consumer that parked them."`
	All       bool    `help:"All that it has parked, in every partition."`
	Partition int     `help:"Their partition, as listed."`
	Offsets   []int64 `arg:"" optional:"" help:"Their offsets, as listed."`
}

// Validate refuses both, and neither.
func (c *Parked) Validate() error {
	switch {
	case c.All && (len(c.Offsets) > 0 || c.Partition != 0):
		return errors.New("--all is of every partition and offset: give either it or offsets")
	case !c.All && len(c.Offsets) == 0:
		return errors.New("which records? Give their offsets, or --all")
	}
	return nil
}

// letter is where a parked record was.
type letter struct {
	partition int
	offset    int64
}

func (l letter) String() string {
	if l.partition > 0 {
		return fmt.Sprintf("offset %d of partition %d", l.offset, l.partition)
	}
	return fmt.Sprintf("offset %d", l.offset)
}

// letters returns the records that are meant.
func (c *Parked) letters(ctx context.Context, p *Program, db consumer.Querier) (letters []letter, err error) {
	for _, offset := range slices.Compact(slices.Sorted(slices.Values(c.Offsets))) {
		letters = append(letters, letter{c.Partition, offset})
	}
	if !c.All {
		return letters, nil
	}
	all, err := consumer.In(c.Schema).DeadLetters(ctx, db, c.Consumer)
	for _, l := range all {
		letters = append(letters, letter{l.Partition, l.Offset})
	}
	if err == nil && len(letters) == 0 {
		err = fmt.Errorf("%s has parked no record: see `%s deadletters list`", c.Consumer, p.Name)
	}
	return letters, err
}

// Each does something to every record, and says that it is done. It stops at the first
// error; but of all records, those that fail again are left, and told in the end, unless
// the database fails. That there is no such record do says by [consumer.ErrNoDeadLetter].
func (c *Parked) Each(ctx context.Context, p *Program, done string, do func(ctx context.Context, db *pgxpool.Pool, partition int, offset int64) error) error {
	return c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		letters, err := c.letters(ctx, p, db)
		if err != nil {
			return err
		}
		failed, first := 0, error(nil)
		for _, l := range letters {
			err := do(ctx, db, l.partition, l.offset)
			switch {
			case err == nil:
				fmt.Printf("%s: %v %s\n", c.Consumer, l, done)
				continue
			case errors.Is(err, consumer.ErrNoDeadLetter) && c.All: // somebody else has done it
				continue
			case errors.Is(err, consumer.ErrNoDeadLetter):
				return c.notParked(p, []int64{l.offset})
			}
			err = fmt.Errorf("%v: %w", l, err)
			if !c.All || ctx.Err() != nil || postgres.IsTransient(err) || postgres.IsSetup(err) {
				return err
			}
			failed++
			first = cmp.Or(first, err)
		}
		if failed > 0 {
			return fmt.Errorf("%d of %d stay parked, the first of them %w", failed, len(letters), first)
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

// DeadLettersRequeue has parked records applied by the consumer itself.
type DeadLettersRequeue struct {
	Parked `embed:""`
}

// Help follows the flags' own help.
func (c *DeadLettersRequeue) Help() string {
	return "The process that reads the partition takes them within a second, with its own handler, unless the consumer is paused; or when it runs again. One that is rejected again stays, with the new reason: see `${program} deadletters list`."
}

// Run marks them.
func (c *DeadLettersRequeue) Run(ctx context.Context, p *Program) error {
	return c.Each(ctx, p, "is left to its consumer", func(ctx context.Context, db *pgxpool.Pool, partition int, offset int64) error {
		return consumer.In(c.Schema).Requeue(ctx, db, c.Consumer, partition, offset)
	})
}

// DeadLettersDiscard gives parked records up.
type DeadLettersDiscard struct {
	Parked `embed:""`
}

// Run discards all of them, or none if one is not parked.
func (c *DeadLettersDiscard) Run(ctx context.Context, p *Program) error {
	var letters []letter
	err := c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			if letters, err = c.letters(ctx, p, tx); err != nil {
				return err
			}
			return c.discard(ctx, p, tx, letters)
		})
	})
	if err != nil {
		return err
	}
	for _, l := range letters {
		fmt.Printf("%s: %v is discarded\n", c.Consumer, l)
	}
	return nil
}

func (c *DeadLettersDiscard) discard(ctx context.Context, p *Program, tx pgx.Tx, letters []letter) error {
	var unknown []int64
	for _, l := range letters {
		err := consumer.In(c.Schema).DiscardDeadLetter(ctx, tx, c.Consumer, l.partition, l.offset)
		switch {
		case errors.Is(err, consumer.ErrNoDeadLetter):
			unknown = append(unknown, l.offset)
		case err != nil:
			return fmt.Errorf("%v: %w", l, err)
		}
	}
	switch {
	case len(unknown) == 0:
		return nil
	case len(letters) == 1:
		return c.notParked(p, unknown)
	}
	return fmt.Errorf("nothing is discarded: %w", c.notParked(p, unknown))
}
