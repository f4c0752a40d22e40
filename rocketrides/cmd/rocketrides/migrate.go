package main

import (
	"context"
	"errors"
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
	Roles         bool          `help:"Also create or update the roles with what each process needs."`
	Partitions    int           `default:"0" help:"Also give the log so many partitions, from 1 to 1,024, while everything runs; 0 keeps those that it has."`
	Timeout       time.Duration `default:"10m" help:"Give up, and undo what is not done, when Postgres takes longer."`
}

// Help follows the flags' own help.
func (migrateCmd) Help() string {
	return `With --roles there are group roles, which cannot log in. Grant them to users of your own:

  rocketrides_api       books rides
  rocketrides_streamer  owns the archive, whose tables it makes and drops
  rocketrides_consumer  keeps checkpoints, totals and dead letters
  rocketrides_reader    reads everything: for status, verify and "consumers list"

For example: CREATE USER api PASSWORD '…' IN ROLE rocketrides_api

Give all streamers one user, so that a standby may end the session of a leader that is frozen. "consumer --bootstrap" needs the reader's role too. Repairs (reconcile, deadletters, "consumers forget") and migrations are for the user who runs this: a superuser, or the database's owner with CREATEROLE and the right to grant pg_read_all_stats.

Redis has the like in deploy/redis/users.acl.`
}

// Validate refuses what the library would refuse, before anything is done.
func (c *migrateCmd) Validate() error {
	if c.Partitions != 0 && c.SQL {
		return errors.New("--partitions is not for --sql: run migrate again without it")
	}
	return checkPartitions(c.Partitions)
}

func checkPartitions(n int) error {
	if n < 0 || n > migration.MaxPartitions {
		return fmt.Errorf("--partitions is %d: it must be from 1 to %d", n, migration.MaxPartitions)
	}
	return nil
}

func (c *migrateCmd) Run(ctx context.Context, log *slog.Logger) error {
	if c.SQL {
		text, err := migration.SQL(schema...)
		if err != nil {
			return err
		}
		fmt.Print(text)
		if c.Roles {
			fmt.Print("\n", rolesSQL)
		}
		return nil
	}
	if err := c.migrate(ctx, c.Timeout, c.Roles); err != nil {
		return err
	}
	log.Info("the database's tables are up to date")
	if c.Roles {
		log.Info("the roles are up to date")
	}
	return c.repartition(ctx, log, c.Timeout, c.Partitions)
}

func (f *databaseFlags) migrate(ctx context.Context, timeout time.Duration, roles bool) error {
	pool, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err = migration.Up(ctx, pool, schema...)
	if err == nil && roles {
		err = makeRoles(ctx, pool)
	}
	return unanswered(err, moreTime)
}

// repartition gives the log so many partitions, unless that is 0, and says what
// it had.
func (f *databaseFlags) repartition(ctx context.Context, log *slog.Logger, timeout time.Duration, partitions int) error {
	if partitions == 0 {
		return nil
	}
	pool, err := f.open(ctx)
	if err != nil {
		return err
	}
	defer closePool(pool)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	before, err := migration.Repartition(ctx, pool, partitions)
	switch {
	case err != nil:
		return unanswered(err, moreTime)
	case before == partitions:
		log.Info(fmt.Sprintf("the log has %s already", counted(partitions)))
	default:
		log.Info(fmt.Sprintf("the log has %s now (%d before): records of a key keep their order", counted(partitions), before))
	}
	return nil
}

func counted(partitions int) string {
	if partitions == 1 {
		return "1 partition"
	}
	return fmt.Sprintf("%d partitions", partitions)
}

// migrateAll brings a database's tables to the newest version.
func migrateAll(ctx context.Context, databaseURL string) error {
	return (&databaseFlags{DatabaseURL: databaseURL}).migrate(ctx, migrateTimeout, false)
}
