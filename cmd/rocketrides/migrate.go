package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/rocketrides/unilog/migration"
)

type migrateCmd struct {
	databaseFlags `embed:""`
	SQL           bool `name:"sql" help:"Print the statements instead of running them."`
}

func (c *migrateCmd) Run(ctx context.Context, log *slog.Logger) error {
	if c.SQL {
		text, err := migration.SQL(schema...)
		if err == nil {
			fmt.Print(text)
		}
		return err
	}
	if err := c.migrate(ctx); err != nil {
		return err
	}
	log.Info("the database's tables are up to date")
	return nil
}

func (f *databaseFlags) migrate(ctx context.Context) error {
	pool, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	return migration.Up(ctx, pool, schema...)
}

// migrateAll brings a database's tables to the newest version.
func migrateAll(ctx context.Context, databaseURL string) error {
	return (&databaseFlags{DatabaseURL: databaseURL}).migrate(ctx)
}
