package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/status"
)

// Consumers looks after the consumers that have registered.
type Consumers struct {
	List   ConsumersList   `cmd:"" help:"List the consumers that have registered."`
	Seek   ConsumersSeek   `cmd:"" help:"Let a consumer go on elsewhere: at an offset, a time, the head, the beginning."`
	Pause  ConsumersPause  `cmd:"" help:"Let a consumer apply nothing until it is resumed."`
	Resume ConsumersResume `cmd:"" help:"Let a consumer go on that was paused."`
	Skip   ConsumersSkip   `cmd:"" help:"Put the next record of a consumer into the dead letters, and let it go on after that."`
	Forget ConsumersForget `cmd:"" help:"Remove a consumer that is gone for good, so that nothing is kept for it."`
}

// ConsumersList lists those that keep their checkpoints in the database, and those
// elsewhere that report through the log.
type ConsumersList struct {
	TaskFlags `embed:""`
	LogFlags  `embed:""`
}

// Run prints them.
func (c *ConsumersList) Run(ctx context.Context, p *Program) error {
	return c.do(ctx, p, writers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		log, closeLog, logErr := c.reader(ctx, p, db, c.Schema)
		defer closeLog()
		status, err := status.Read(ctx, db, c.Schema, log)
		if err != nil {
			return err
		}
		if logErr == nil && status.ReportsError != "" {
			logErr = errors.New(status.ReportsError)
		}
		if logErr != nil {
			fmt.Fprintln(os.Stderr, "consumers elsewhere are listed as far as the database knows them:", oneLine(logErr))
		}
		if err := printConsumers(os.Stdout, status.Consumers); err != nil {
			return err
		}
		return printInterventions(ctx, os.Stdout, db, c.Schema, status.Consumers)
	})
}

// printInterventions says who is paused, and what was last done to each of them.
func printInterventions(ctx context.Context, out io.Writer, db *pgxpool.Pool, schema unilog.Schema, consumers []status.Consumer) error {
	for _, c := range consumers {
		if c.Elsewhere {
			continue
		}
		if c.Paused != nil {
			since := time.Duration(c.Paused.Seconds * float64(time.Second)).Round(time.Second)
			fmt.Fprintf(out, "%s is paused, for %v now, by %s\n", printable(c.Name), since, printable(c.Paused.By))
		}
		last, err := consumer.In(schema).Interventions(ctx, db, c.Name, 1)
		if err != nil {
			return err
		}
		for _, i := range last {
			fmt.Fprintf(out, "%s: last intervention %s: %s\n", printable(c.Name), i.At.Format(time.DateTime), printable(described(i)))
		}
	}
	return nil
}

// described says what somebody has done.
func described(i consumer.Intervention) string {
	text := i.What
	if i.Partition != nil {
		text += fmt.Sprintf(" in partition %d", *i.Partition)
	}
	switch {
	case i.What == "seek":
		text += fmt.Sprintf(" from offset %d to %d", *i.From+1, *i.To+1)
	case i.To != nil:
		text += fmt.Sprintf(" of offset %d", *i.To)
	}
	text += ", by " + i.Who
	if i.Reason != "" {
		text += ": " + i.Reason
	}
	return text
}

// unknown says that there is no consumer of a name.
func (p *Program) unknown(name string) error {
	return fmt.Errorf("no consumer %s has registered: see `%s consumers list`", name, p.Name)
}

// Index: checkpoints_pkey.
const sqlNames = `SELECT DISTINCT name FROM unilog.checkpoints ORDER BY name LIMIT 20`

// unknownOf says so, and which there are.
func (p *Program) unknownOf(ctx context.Context, db postgres.Querier, schema unilog.Schema, name string) error {
	rows, _ := db.Query(ctx, schema.SQL(sqlNames)) // CollectRows has the error
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	switch {
	case err != nil || len(names) == 0:
		return p.unknown(name)
	case slices.Contains(names, name):
		return fmt.Errorf("%s has no checkpoint in that partition: see `%s status`", name, p.Name)
	}
	return fmt.Errorf("no consumer %s has registered, but %s: see `%s consumers list`", name, listed(names), p.Name)
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
		letters, processes := fmt.Sprint(c.DeadLetters), "-" // not known, or none
		switch {
		case c.Elsewhere:
			letters, processes = "-", "elsewhere"
		case c.Processes > 0:
			processes = fmt.Sprint(c.Processes)
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%.1f\t%s\t%v ago\t%s\t\n", printable(c.Name), c.Checkpoint, c.Lag, c.LagSeconds, letters, seen, processes)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, c := range consumers {
		if c.Pace != nil {
			fmt.Fprintf(out, "  %s: %s\n", printable(c.Name), c.Says())
		}
	}
	return nil
}

// ConsumersForget removes what is kept of a consumer.
type ConsumersForget struct {
	TaskFlags `embed:""`
	LogFlags  `embed:""`
	Name      string `arg:"" help:"The consumer. It must not be running."`
}

// Run fails if there is none of the name.
func (c *ConsumersForget) Run(ctx context.Context, p *Program) error {
	reported := 0
	var unasked error
	err := c.do(ctx, p, either, 0, func(ctx context.Context, db *pgxpool.Pool) (err error) {
		var logs, consumers bool
		if err := db.QueryRow(ctx, c.Schema.SQL(sqlSides)).Scan(&logs, &consumers); err != nil {
			return err
		}
		if logs {
			if reported, unasked, err = c.forgetReports(ctx, p, db); err != nil {
				return err
			}
		}
		if !consumers {
			return consumer.ErrUnknown
		}
		return c.forget(ctx, p, db)
	})
	switch {
	case errors.Is(err, consumer.ErrRunning):
		err = fmt.Errorf("%s is running, and would apply everything again: stop all of its processes first (one was seen within the last 2 s)", c.Name)
	case errors.Is(err, consumer.ErrUnknown) && unasked != nil:
		err = fmt.Errorf("no consumer %s has registered here, and the log may still have what one elsewhere has reported: %w", c.Name, unasked)
	case errors.Is(err, consumer.ErrUnknown) && reported > 0:
		fmt.Printf("%s is forgotten here: what it has reported is gone; its checkpoint is its own database's, and it reports again if it still runs\n", c.Name)
		return nil
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

// forget removes what this database has of a consumer.
func (c *ConsumersForget) forget(ctx context.Context, p *Program, db *pgxpool.Pool) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		err := consumer.In(c.Schema).Forget(ctx, tx, c.Name)
		if err == nil && p.Forget != nil {
			err = p.Forget(ctx, tx, c.Name)
		}
		return err
	})
}

const (
	// Index: those of the catalogs.
	sqlSides = `SELECT to_regclass('unilog.readers') IS NOT NULL, to_regclass('unilog.checkpoints') IS NOT NULL`
	// Index: readers_pkey.
	sqlForgetReports = `DELETE FROM unilog.readers WHERE name = $1`
)

// forgetReports removes what a consumer elsewhere has reported, first from the log, from
// where streamers copy it. It returns how many reports there were, and why the log was not
// asked, if it was not: one of this database can be forgotten all the same.
func (c *ConsumersForget) forgetReports(ctx context.Context, p *Program, db *pgxpool.Pool) (n int, unasked, err error) {
	log, closeLog, unasked := c.reader(ctx, p, db, c.Schema)
	defer closeLog()
	if reporter, ok := log.(unilog.Reporter); ok {
		var reports []unilog.Report
		if reports, unasked = reporter.Reports(ctx); unasked == nil {
			unasked = reporter.ForgetReports(ctx, c.Name)
		}
		for _, r := range reports {
			if r.Name == c.Name {
				n++
			}
		}
	}
	tag, err := db.Exec(ctx, c.Schema.SQL(sqlForgetReports), c.Name)
	return n + int(tag.RowsAffected()), unasked, err
}
