package main

import (
	"context"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
)

// migrateCmd is unilog's, with what is to know of the roles of Rocket Rides.
type migrateCmd struct {
	cli.Migrate `embed:""`
}

// Help follows the flags' own help.
func (migrateCmd) Help() string {
	return `With --roles there are group roles, which cannot log in. Grant them to users of your own:

  rocketrides_api       books rides
  rocketrides_streamer  numbers records and keeps the archive
  rocketrides_consumer  keeps checkpoints, totals and dead letters
  rocketrides_reader    reads everything: for status, verify and "consumers list"

None of them may make or drop a table. For example: CREATE USER api PASSWORD '…' IN ROLE rocketrides_api

Give all streamers one user, so that a standby may end the session of a leader that is frozen. "consumer --bootstrap" needs the reader's role too. Repairs (reconcile, deadletters, "consumers forget") and migrations are for the user who runs this: a superuser, or the database's owner with CREATEROLE and the right to grant pg_read_all_stats.

Redis has the like in deploy/redis/users.acl.`
}

// migrateAll brings a private database's tables to the newest version.
func migrateAll(ctx context.Context, databaseURL string) error {
	return (&cli.DatabaseFlags{DatabaseURL: databaseURL}).Up(ctx, program, cli.MigrateTimeout)
}
