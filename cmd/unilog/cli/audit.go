package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"strings"

	"github.com/alecthomas/kong"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/cmd/unilog/dashboard"
)

// AuditFlags say what consumers must agree with the database about, for a program
// that has no audit of its own.
type AuditFlags struct {
	Audit  string `group:"Audit:" env:"UNILOG_AUDIT" placeholder:"FILE" help:"A file that has the SQL, and more; see the help of verify."`
	Truth  string `group:"Audit:" env:"AUDIT_TRUTH" placeholder:"SQL" help:"A query for the true total: SELECT sum(amount) FROM orders."`
	Totals string `group:"Audit:" env:"AUDIT_TOTALS" placeholder:"SQL" help:"A query for the consumers' totals: SELECT consumer, total FROM order_totals."`
	Amount string `group:"Audit:" env:"AUDIT_AMOUNT" placeholder:"SQL" help:"An expression for what a record adds to the total, over its columns action, object, key, data, headers, body and content_type: (data ->> 'amount')::numeric."`
}

// helpAudit is for the help of commands that have the flags.
const helpAudit = `

The audit is an equation that holds at every instant: the truth is a consumer's total, plus what is still on the way to it. It is SQL, in three flags or in a file such as

  -- truth:
  SELECT sum(amount) FROM orders
  -- totals:
  SELECT consumer, total FROM order_totals
  -- amount:
  (data ->> 'amount')::numeric

which may also have "-- count:", a query for how many there are, and the words "-- consumers: billing, reports", if others keep other totals, "-- many: orders" and "-- unit: EUR". Sums must be exact: of type numeric, or integers.`

// with is the program with the audit that the flags ask for; none, if they ask for
// none and it has none.
func (f *AuditFlags) with(p *Program) (*Program, error) {
	parts := map[string]string{"truth": f.Truth, "totals": f.Totals, "amount": f.Amount}
	asked := f.Truth != "" || f.Totals != "" || f.Amount != ""
	switch {
	case f.Audit != "" && asked:
		return nil, errors.New("--audit is a file that has --truth, --totals and --amount: give the one or the others")
	case f.Audit != "":
		text, err := os.ReadFile(f.Audit)
		if err != nil {
			return nil, fmt.Errorf("--audit: %w", err)
		}
		if parts, err = readAudit(string(text)); err != nil {
			return nil, fmt.Errorf("--audit: %s: %w", f.Audit, err)
		}
	case !asked:
		return p, nil
	}
	for _, part := range []string{"truth", "totals", "amount"} {
		if parts[part] == "" {
			return nil, fmt.Errorf("the audit has no %s: it needs truth, totals and amount, by flags or in the file of --audit; see `%s verify --help`", part, p.Name)
		}
	}
	with := *p
	with.Audit = &dashboard.Audit{
		Equation:  audit.Equation{Truth: parts["truth"], Totals: parts["totals"], Amount: parts["amount"]},
		Count:     parts["count"],
		Consumers: strings.FieldsFunc(parts["consumers"], func(r rune) bool { return r == ',' || r == ' ' || r == '\n' }),
	}
	with.Words.Many, with.Words.Unit = parts["many"], parts["unit"]
	return &with, nil
}

// heading begins a part of an audit's file.
var heading = regexp.MustCompile(`^--\s*(\w+):\s*(.*)$`)

// readAudit returns the parts of an audit's file by their names.
func readAudit(text string) (map[string]string, error) {
	known := map[string]bool{"truth": true, "totals": true, "amount": true, "count": true, "consumers": true, "many": true, "unit": true}
	parts := map[string]string{}
	part := ""
	for line := range strings.Lines(text) {
		found := heading.FindStringSubmatch(strings.TrimSpace(line))
		switch {
		case found != nil && known[found[1]]:
			part, line = found[1], found[2]+"\n"
			if _, twice := parts[part]; twice {
				return nil, fmt.Errorf("it has %q twice", "-- "+part+":")
			}
		case found != nil:
			return nil, fmt.Errorf("there is no %q: it may have truth, totals, amount, count, consumers, many and unit", "-- "+found[1]+":")
		case part == "" && strings.TrimSpace(line) != "" && !strings.HasPrefix(strings.TrimSpace(line), "--"):
			return nil, errors.New(`what is first in it must come after a line such as "-- truth:"`)
		}
		if part != "" {
			parts[part] += line
		}
	}
	for part, sql := range parts {
		// It becomes a part of a statement.
		parts[part] = strings.TrimSuffix(strings.TrimSpace(sql), ";")
	}
	return parts, nil
}

// AnyVerify is [Verify] by an audit that is given.
type AnyVerify struct {
	Verify     `embed:""`
	AuditFlags `embed:""`
}

// Help follows the flags' own help.
func (c *AnyVerify) Help() string { return c.Verify.Help() + helpAudit }

// Run fails with an [ExitError].
func (c *AnyVerify) Run(ctx context.Context, p *Program) error {
	p, err := c.with(p)
	if err == nil && p.Audit == nil {
		err = errors.New("there is no audit: give --audit FILE, or --truth, --totals and --amount; see `" + p.Name + " verify --help`")
	}
	if err != nil {
		return &ExitError{exitCouldNotSee, err}
	}
	return c.Verify.Run(ctx, p)
}

// AnyDashboard is [Dashboard] with an audit, if one is given.
type AnyDashboard struct {
	Dashboard  `embed:""`
	AuditFlags `embed:""`
}

// Run serves until ctx ends.
func (c *AnyDashboard) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	p, err := c.with(p)
	if err != nil {
		return err
	}
	return c.Dashboard.Run(ctx, log, p)
}

// auditFlag is the first of the flags for the audit that were given on the command
// line, where they are meant; in the environment, they are for other commands, too.
func auditFlag(command *kong.Context) string {
	for _, part := range command.Path {
		if f := part.Flag; f != nil && f.Group != nil && f.Group.Key == "Audit:" {
			return f.Name
		}
	}
	return ""
}

// AnyStatus is [Status], which shows an audit with --watch, if one is given.
type AnyStatus struct {
	Status     `embed:""`
	AuditFlags `embed:""`
}

// Run prints it once, or with --watch until ctx ends.
func (c *AnyStatus) Run(ctx context.Context, p *Program, command *kong.Context) error {
	if flag := auditFlag(command); flag != "" && !c.drawn() {
		return &ExitError{ExitUsage, fmt.Errorf("--%s is for --watch on a terminal: elsewhere, `%s verify` audits", flag, p.Name)}
	}
	p, err := c.with(p)
	if err != nil {
		return err
	}
	return c.Status.Run(ctx, p)
}
