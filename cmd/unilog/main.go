// Command unilog looks after any database with a unilog in it; see its --help.
package main

import (
	"github.com/alecthomas/kong"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
)

type commands struct {
	cli.LoggingFlags `embed:""`

	Migrate   cli.AnyMigrate   `cmd:"" help:"Create or upgrade the database's tables."`
	Streamer  cli.Streamer     `cmd:"" help:"Number staged records and publish them to the log."`
	Status    cli.AnyStatus    `cmd:"" help:"Show where everything stands, and what is stuck and why."`
	Dashboard cli.AnyDashboard `cmd:"" help:"Show the records on their way, and the audit if one is given, live in a browser."`
	Doctor    cli.Doctor       `cmd:"" help:"Look at the servers' settings for what is unsafe, and say what to change."`
	Verify    cli.AnyVerify    `cmd:"" help:"Check that every consumer agrees with the database, by an audit that you give."`

	Deliver     cli.Deliver     `cmd:"" help:"Post records to a URL, signed, each until it has arrived."`
	Consumers   cli.Consumers   `cmd:"" help:"List, seek, pause, resume or forget consumers, or let one skip a record."`
	Deadletters cli.DeadLetters `cmd:"" help:"List, requeue or discard records that consumers have parked."`
	Log         cli.Log         `cmd:"" help:"Look into the log, stage records, redact them, or move the log."`

	Probe   cli.Probe   `cmd:"" help:"Ask the process of the same environment whether it is alive: for containers without a shell."`
	Version cli.Version `cmd:"" help:"Show the version, the commit and the Go that built it."`

	Completion cli.Completion `cmd:"" help:"Print a script with which a shell completes commands and flags."`
	Man        cli.Man        `cmd:"" help:"Print the manual page."`

	ShowVersion kong.VersionFlag `name:"version" help:"Show the version."`
}

// program knows no application: the audit is given by flags.
var program = &cli.Program{
	Name:        "unilog",
	Description: "Records that are staged in a transaction, in order, to every consumer, each once.",
}

func main() { program.Main(new(commands)) }
