package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/cmd/unilog/dashboard"
)

// Verify checks that every consumer agrees with the database, by the program's audit.
type Verify struct {
	TaskFlags `embed:""`
	Names     []string      `arg:"" optional:"" help:"Consumers that must be there, and that --wait waits for; all of them if none is named."`
	JSON      bool          `name:"json" help:"Print the figures as JSON."`
	Wait      time.Duration `placeholder:"10s" help:"Also wait, up to this long, until every consumer has caught up."`

	without map[string]int64 // by consumer, how many records were redacted that it had not applied
}

// The exit codes of verify.
const (
	exitDisagrees   = 1
	exitCouldNotSee = 2
)

// Help follows the flags' own help.
func (c *Verify) Help() string {
	return "Exits with 0 if every consumer agrees with the database, 1 with the figures if not, 2 if it could not look."
}

// Run fails with an [ExitError].
func (c *Verify) Run(ctx context.Context, p *Program) error {
	var balances []audit.Balance
	err := c.Do(ctx, p, c.Wait, func(ctx context.Context, db *pgxpool.Pool) (err error) {
		balances, err = c.look(ctx, p, db)
		if slices.ContainsFunc(balances, func(b audit.Balance) bool { return !b.Agrees }) {
			err = c.lookWithout(ctx, db)
		}
		return err
	})
	if err == nil && len(balances) == 0 && len(c.Names) == 0 {
		err = errors.New("no consumer has registered yet: start one, and see `" + p.Name + " consumers list`")
	}
	if err != nil {
		return &ExitError{exitCouldNotSee, err}
	}
	if c.JSON {
		err = printJSON(balances)
	} else {
		err = printTable(balances, p.Words)
	}
	if err != nil {
		return &ExitError{exitCouldNotSee, err}
	}
	if err := c.judge(p, balances); err != nil {
		return &ExitError{exitDisagrees, err}
	}
	return nil
}

// Index: the table is read whole, and has a row for each record that was redacted.
const sqlWithout = `SELECT name, count(*) FROM unilog.redactions CROSS JOIN unnest(unapplied) AS u (name) GROUP BY name`

// lookWithout reads who lacks records that were redacted: no audit can know what they held.
func (c *Verify) lookWithout(ctx context.Context, db *pgxpool.Pool) error {
	c.without = map[string]int64{}
	rows, _ := db.Query(ctx, c.Schema.SQL(sqlWithout))
	var name string
	var n int64
	_, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error {
		c.without[name] = n
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what was redacted: %w", err)
	}
	return nil
}

// judge returns what is wrong with the balances.
func (c *Verify) judge(p *Program, balances []audit.Balance) error {
	var missing []string
	for _, name := range slices.Concat(c.Names, p.Audit.Consumers) {
		if !slices.Contains(missing, name) && !slices.ContainsFunc(balances, func(b audit.Balance) bool { return b.Consumer == name }) {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
	case 1:
		return fmt.Errorf("%s has not registered: is it running? See `%s consumers list`", missing[0], p.Name)
	default:
		return fmt.Errorf("%s have not registered: are they running? See `%s consumers list`", listed(missing), p.Name)
	}
	for _, b := range balances {
		if !b.Agrees {
			without := ""
			if n := c.without[b.Consumer]; n > 0 {
				without = fmt.Sprintf(": %d records were redacted before it had applied them (unilog.redactions)", n)
			}
			return fmt.Errorf("%s disagrees with the database by %s%s", b.Consumer, p.Words.Amount(b.Difference), without)
		}
	}
	for _, b := range balances {
		if c.Wait > 0 && c.awaited(b) && !caughtUp(b) {
			return fmt.Errorf("%s has not caught up within %v: %d records staged, %d ahead of it", b.Consumer, c.Wait, b.Backlog, b.Lag)
		}
	}
	return nil
}

func (c *Verify) awaited(b audit.Balance) bool {
	return len(c.Names) == 0 || slices.Contains(c.Names, b.Consumer)
}

// look audits, and goes on while consumers that agree are catching up.
func (c *Verify) look(ctx context.Context, p *Program, db *pgxpool.Pool) ([]audit.Balance, error) {
	deadline := time.Now().Add(c.Wait)
	defer working(ctx, nil, "verifying")()
	for {
		balances, err := p.Audit.Check(ctx, db, c.Schema)
		if err != nil {
			return nil, err
		}
		wrong := c.judge(p, balances) != nil
		disagrees := slices.ContainsFunc(balances, func(b audit.Balance) bool { return !b.Agrees })
		if len(balances) > 0 && !wrong || disagrees || !time.Now().Before(deadline) {
			return balances, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func caughtUp(b audit.Balance) bool { return b.Lag == 0 && b.Backlog == 0 }

func printJSON(balances []audit.Balance) error {
	agree := true
	for _, b := range balances {
		agree = agree && b.Agrees
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(struct {
		Agree     bool            `json:"agree"`
		Consumers []audit.Balance `json:"consumers"`
	}{agree, balances})
}

// truthOf heads the column of the truth.
func truthOf(words dashboard.Words) string {
	switch {
	case words.Many == "":
		return "truth"
	case words.Unit == "":
		return "all " + words.Many
	}
	return "all " + words.Many + " (" + words.Unit + ")"
}

func printTable(balances []audit.Balance, words dashboard.Words) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "consumer\t%s\t= total\t+ ahead\t+ staged\t+ parked\tlag\t\n", truthOf(words))
	for _, b := range balances {
		verdict := "agrees"
		switch {
		case b.Began > 0:
			verdict = fmt.Sprintf("not audited: it began after %d records", b.Began)
		case !b.Agrees:
			verdict = "DISAGREES by " + b.Difference
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%s\t\n", b.Consumer, b.Truth, b.Total, b.Ahead, b.Staged, b.Parked, b.Lag, verdict)
	}
	return w.Flush()
}
