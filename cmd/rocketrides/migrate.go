package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog/migration"
)

// migrateTimeout bounds all migrations together, the wait for another process
// that migrates included.
const migrateTimeout = 10 * time.Minute

type migrateCmd struct {
	databaseFlags `embed:""`
	SQL           bool          `name:"sql" help:"Print the statements instead of running them."`
	Timeout       time.Duration `default:"10m" help:"Give up, and undo what is not done, when Postgres takes longer."`
}

func (c *migrateCmd) Run(ctx context.Context, log *slog.Logger) error {
	if c.SQL {
		text, err := migration.SQL(schema...)
		if err == nil {
			fmt.Print(text)
		}
		return err
	}
	if err := c.migrate(ctx, c.Timeout); err != nil {
		return err
	}
	log.Info("the database's tables are up to date")
	return nil
}

func (f *databaseFlags) migrate(ctx context.Context, timeout time.Duration) error {
	pool, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return unanswered(migration.Up(ctx, pool, schema...), moreTime)
}

// migrateAll brings a database's tables to the newest version.
func migrateAll(ctx context.Context, databaseURL string) error {
	return (&databaseFlags{DatabaseURL: databaseURL}).migrate(ctx, migrateTimeout)
}
