package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/switchlog"
)

// Doctor looks at the servers' settings.
type Doctor struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`
	JSON          bool          `name:"json" help:"Print it as JSON."`
	Timeout       time.Duration `default:"1m" help:"Give up when the servers take longer."`
}

// Help follows the flags' own help.
func (Doctor) Help() string {
	return `Each line is ok, advice or unsafe: what was found, why it matters, and what to change. The exit code is 1 if anything is unsafe. It changes nothing. Settings of Postgres are those of the role that it connects with. Each process looks for itself when it starts, and does not start if what it needs is unsafe, but with --allow-unsafe.`
}

// Run fails if anything is unsafe.
func (c *Doctor) Run(ctx context.Context, p *Program) error {
	findings, err := c.look(ctx, p)
	if err != nil {
		return err
	}
	if c.JSON {
		err = json.NewEncoder(os.Stdout).Encode(findings)
	} else {
		err = printFindings(os.Stdout, findings)
	}
	if err != nil {
		return err
	}
	if n := len(unsafeOnes(findings)); n > 0 {
		return fmt.Errorf("%d of %d findings are unsafe: change what they say", n, len(findings))
	}
	return nil
}

func (c *Doctor) look(ctx context.Context, p *Program) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	db, err := c.DatabaseFlags.Open(ctx, p)
	if err != nil {
		return nil, err
	}
	defer ClosePool(db)
	log, err := c.LogFlags.OpenAt(ctx, p, db, c.Schema, "")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	findings, err := p.findings(ctx, db, c.Schema, log)
	if err != nil {
		return nil, err
	}
	tables, err := doctor.Tables(ctx, db, c.Schema, p.Name, p.present(ctx, db, c.in())...)
	return append(findings, tables), Unanswered(err, MoreTime)
}

// findings are those about Postgres, and the server that the log is in.
func (p *Program) findings(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, stream switchlog.Engine) ([]doctor.Finding, error) {
	found, err := doctor.Examine(ctx, db, schema, ServerOf(stream), p.Name, p.Tables...)
	if err != nil {
		return nil, fmt.Errorf("cannot see whether the servers are safe; see that they answer: %w", err)
	}
	return found, nil
}

// present are the sets that the tables are to be of: those that there are, or all.
func (p *Program) present(ctx context.Context, db *pgxpool.Pool, in migration.In) []migration.Set {
	if len(p.Sets) > 0 {
		return p.tables(both)
	}
	var some []migration.Set
	for _, set := range both {
		var outdated *migration.OutdatedError
		if err := in.Check(ctx, db, set); !errors.As(err, &outdated) || outdated.Has > 0 {
			some = append(some, set)
		}
	}
	if some == nil {
		return both
	}
	return some
}

func printFindings(out io.Writer, findings []doctor.Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(out, "%-7s %s\n", f.Level, plain(f.String())); err != nil {
			return err
		}
	}
	return nil
}

// unsafeOnes are the findings that stop a process.
func unsafeOnes(findings []doctor.Finding) (some []doctor.Finding) {
	for _, f := range findings {
		if f.Level == doctor.Unsafe {
			some = append(some, f)
		}
	}
	return some
}
