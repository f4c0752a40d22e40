// Command rocketrides runs the processes of Rocket Rides; see its --help.
package main

import (
	"context"
	_ "embed"

	"github.com/alecthomas/kong"
	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/cmd/unilog/dashboard"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// commands are named as in the Procfile. Those that know rides are in the file of
// their name; the others are unilog's.
type commands struct {
	cli.LoggingFlags `embed:""`

	Up        upCmd        `cmd:"" help:"Run everything: servers where none are configured, and all processes."`
	Tour      tourCmd      `cmd:"" help:"Take the tour in a terminal: break a private system in six steps, and see it heal."`
	API       apiCmd       `cmd:"" name:"api" help:"Take bookings: write rides and stage their log records."`
	Streamer  streamerCmd  `cmd:"" help:"Number staged records and publish them to the log."`
	Consumer  consumerCmd  `cmd:"" help:"Read the log and keep the total distance of all rides."`
	Simulator simulatorCmd `cmd:"" help:"Book random rides at the api."`
	Dashboard dashboardCmd `cmd:"" help:"Show the records on their way, the faults and the audit, live in a browser."`
	Migrate   migrateCmd   `cmd:"" help:"Create or upgrade the database's tables."`
	Status    cli.Status   `cmd:"" help:"Show where everything stands, and what is stuck and why."`
	Doctor    cli.Doctor   `cmd:"" help:"Look at the servers' settings for what is unsafe, and say what to change."`
	Verify    cli.Verify   `cmd:"" help:"Check that every consumer agrees with the database."`
	Reconcile reconcileCmd `cmd:"" help:"Repair the total of a consumer whose state was damaged."`
	Torture   tortureCmd   `cmd:"" help:"Inject every fault under load and see that nothing is lost, doubled or reordered."`
	Bench     benchCmd     `cmd:"" help:"Measure everything, next to what the servers can do at the most."`
	Relay     relayCmd     `cmd:"" hidden:"" name:"plain-relay"`

	Deliver     cli.Deliver    `cmd:"" help:"Post records to a URL, signed, each until it has arrived."`
	Consumers   cli.Consumers  `cmd:"" help:"List, seek, pause, resume or forget consumers, or let one skip a record."`
	Log         cli.Log        `cmd:"" help:"Look into the log, stage records, redact them, or move the log."`
	Deadletters deadLettersCmd `cmd:"" help:"List, requeue, retry or discard records that consumers have parked."`

	Probe   probeCmd    `cmd:"" help:"Ask the process of the same environment whether it is alive: for containers without a shell."`
	Version cli.Version `cmd:"" help:"Show the version, the commit and the Go that built it."`

	Completion cli.Completion `cmd:"" help:"Print a script with which a shell completes commands and flags."`
	Man        cli.Man        `cmd:"" help:"Print the manual page."`

	ShowVersion kong.VersionFlag `name:"version" help:"Show the version."`
}

// What the processes of Rocket Rides may do with its own tables.
//
//go:embed roles.sql
var rolesSQL string

// program is what unilog's commands know of Rocket Rides.
var program = &cli.Program{
	Name:        "rocketrides",
	Description: "Rocket Rides: a database, a log, and consumers that always agree with the database.",
	Stream:      "rocket-rides-log",
	Supervisor:  "rocketrides up",
	Sets:        []migration.Set{rides.MigrationSet},
	Tables:      []string{"rides", "consumer_states", "idempotency_keys_0", "idempotency_keys_1", "idempotency_keys_2"},
	Roles:       rolesSQL,
	WriterRole:  "api",
	Audit: &dashboard.Audit{
		Equation: rides.Audit, Count: `SELECT count(*) FROM rides`,
		Own: `SELECT name FROM consumer_states`, // others may read the log, too
	},
	Words: dashboard.Words{
		Title:   "Rocket Rides",
		Promise: "Every jetpack ride that is booked reaches every consumer exactly once, whatever crashes on the way.",
		One:     "ride", Many: "rides", Do: "book", Does: "books", Doing: "booking", Did: "booked",
		Unit: "m", Measure: "metres",
		Writer: "api", Step: "takes a booking; the ride and its record are one transaction",
	},
	Forget: func(ctx context.Context, tx pgx.Tx, consumer string) error {
		return rides.ForgetState(ctx, tx, consumer)
	},
	State: "its total",
}

func main() { program.Main(new(commands)) }
