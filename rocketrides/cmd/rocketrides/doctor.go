package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/switchlog"
)

type doctorCmd struct {
	databaseFlags `embed:""`
	logFlags      `embed:""`
	JSON          bool          `name:"json" help:"Print it as JSON."`
	Timeout       time.Duration `default:"1m" help:"Give up when the servers take longer."`
}

// Help follows the flags' own help.
func (doctorCmd) Help() string {
	return `Each line is ok, advice or unsafe: what was found, why it matters, and what to change. The exit code is 1 if anything is unsafe. It changes nothing. Settings of Postgres are those of the role that it connects with. Each process looks for itself when it starts, and does not start if what it needs is unsafe, but with --allow-unsafe.`
}

func (c *doctorCmd) Run(ctx context.Context) error {
	findings, err := c.look(ctx)
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

func (c *doctorCmd) look(ctx context.Context) ([]doctor.Finding, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	db, err := c.databaseFlags.open(ctx)
	if err != nil {
		return nil, err
	}
	defer closePool(db)
	log, err := c.logFlags.openAt(ctx, db, "")
	if err != nil {
		return nil, err
	}
	defer log.Close()
	findings, err := findings(ctx, db, log)
	if err != nil {
		return nil, err
	}
	tables, err := doctor.Schema(ctx, db, schema...)
	return append(findings, tables), unanswered(err, moreTime)
}

// findings are those about Postgres, and Redis if the log is there.
func findings(ctx context.Context, db *pgxpool.Pool, stream switchlog.Engine) ([]doctor.Finding, error) {
	found, err := doctor.Examine(ctx, db, redisOf(stream))
	if err != nil {
		return nil, fmt.Errorf("cannot see whether the servers are safe; see that they answer: %w", err)
	}
	return found, nil
}

func printFindings(out io.Writer, findings []doctor.Finding) error {
	for _, f := range findings {
		if _, err := fmt.Fprintf(out, "%-7s %s\n", f.Level, f); err != nil {
			return err
		}
	}
	return nil
}

// pooled says what to do about statements that a pooler has mixed up between
// sessions: prepared twice, or unknown.
func pooled(err error) error {
	var refused *pgconn.PgError
	if !errors.As(err, &refused) || refused.Code != "42P05" && refused.Code != "26000" {
		return err
	}
	return fmt.Errorf("a pooler in transaction mode is between; see `rocketrides doctor`: %w", err)
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

// safetyFlags are for processes that look at their servers when they start.
type safetyFlags struct {
	AllowUnsafe bool `env:"ALLOW_UNSAFE" help:"Start though a server's settings are unsafe, and only warn; see rocketrides doctor."`
}

// examine refuses servers that are unsafe for a process. Advice is logged.
func (f *safetyFlags) examine(ctx context.Context, log *slog.Logger, p doctor.Process, db *pgxpool.Pool, stream switchlog.Engine) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	all, err := findings(ctx, db, stream)
	if err != nil {
		return err
	}
	matter := doctor.Concerning(p, all)
	if found := unsafeOnes(matter); len(found) > 0 && !f.AllowUnsafe {
		var lines []string
		for _, u := range found {
			lines = append(lines, u.String())
		}
		return errors.New("unsafe: " + strings.Join(lines, "; ") + "; or start with --allow-unsafe (ALLOW_UNSAFE=true)")
	}
	for _, f := range matter {
		switch f.Level {
		case doctor.Unsafe:
			log.Warn("unsafe: " + f.String())
		case doctor.Advice:
			log.Info("advice: " + f.String())
		}
	}
	return nil
}
