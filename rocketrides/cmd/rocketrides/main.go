// Command rocketrides runs the processes of Rocket Rides; see its --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/joho/godotenv"

	"github.com/rocketrides/unilog/internal/version"
)

// commands are named as in the Procfile; each is in the file of its name.
type commands struct {
	loggingFlags `embed:""`

	Up        upCmd        `cmd:"" help:"Run everything: servers where none are configured, and all processes."`
	API       apiCmd       `cmd:"" name:"api" help:"Take bookings: write rides and stage their log records."`
	Streamer  streamerCmd  `cmd:"" help:"Number staged records and publish them to the log."`
	Consumer  consumerCmd  `cmd:"" help:"Read the log and keep the total distance of all rides."`
	Simulator simulatorCmd `cmd:"" help:"Book random rides at the api."`
	Dashboard dashboardCmd `cmd:"" help:"Show the records on their way, the faults and the audit, live in a browser."`
	Migrate   migrateCmd   `cmd:"" help:"Create or upgrade the database's tables."`
	Status    statusCmd    `cmd:"" help:"Show where everything stands, and what is stuck and why."`
	Doctor    doctorCmd    `cmd:"" help:"Look at the servers' settings for what is unsafe, and say what to change."`
	Verify    verifyCmd    `cmd:"" help:"Check that every consumer agrees with the database."`
	Reconcile reconcileCmd `cmd:"" help:"Repair the total of a consumer whose state was damaged."`
	Torture   tortureCmd   `cmd:"" help:"Inject every fault under load and see that nothing is lost, doubled or reordered."`
	Bench     benchCmd     `cmd:"" help:"Measure everything, next to what the servers can do at the most."`

	Consumers   consumersCmd   `cmd:"" help:"List or forget consumers."`
	Log         logCmd         `cmd:"" help:"Move the log to another place or engine."`
	Deadletters deadLettersCmd `cmd:"" help:"List, retry or discard records that consumers have parked."`

	Probe   probeCmd   `cmd:"" help:"Ask the process of the same environment whether it is alive: for containers without a shell."`
	Version versionCmd `cmd:"" help:"Show the version, the commit and the Go that built it."`

	ShowVersion kong.VersionFlag `name:"version" help:"Show the version."`
}

func main() {
	// Who reads the output may go, as tee does at Ctrl-C: that ends no process.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code := run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// exitUsage is for words and settings that are off.
const exitUsage = 2

// named returns the command that a usage error is about, if it got that far.
func named(err error) string {
	var e *kong.ParseError
	if !errors.As(err, &e) || e.Context == nil {
		return ""
	}
	if command, _, _ := strings.Cut(e.Context.Command(), " <"); command != "" {
		return " " + command
	}
	return ""
}

// exitError is an error with an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func newParser(cmds *commands) (*kong.Kong, error) {
	return kong.New(cmds,
		kong.Name("rocketrides"),
		kong.Description("Rocket Rides: a database, a log, and consumers that always agree with the database."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Vars{"version": version.String()},
		logVars(),
	)
}

func run(ctx context.Context, args []string) int {
	// What is set in the environment wins over what is in the file.
	var path *fs.PathError
	if err := godotenv.Load(); errors.As(err, &path) && !errors.Is(err, os.ErrNotExist) {
		return fail(&exitError{exitUsage, fmt.Errorf("read .env: %w", err)})
	} else if err != nil && path == nil {
		// The error would quote the file, and with it passwords.
		return fail(&exitError{exitUsage, errors.New("read .env: a line of it is not NAME=value, or a quote has no end: see .env.example")})
	}
	// NAME= in a file means that it is not set, not that it is the empty text.
	for _, variable := range os.Environ() {
		if name, isEmpty := strings.CutSuffix(variable, "="); isEmpty {
			if err := os.Unsetenv(name); err != nil {
				return fail(err)
			}
		}
	}
	cmds, command, err := parse(args)
	if err != nil {
		return fail(err)
	}
	log, err := cmds.logger(os.Stdout)
	if err != nil {
		return fail(err)
	}
	slog.SetDefault(log)
	command.BindTo(ctx, (*context.Context)(nil))
	command.Bind(log, &cmds.loggingFlags)
	return fail(command.Run())
}

// parse returns the command that is asked for.
func parse(args []string) (*commands, *kong.Context, error) {
	cmds := new(commands)
	parser, err := newParser(cmds)
	if err != nil {
		return nil, nil, err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	command, err := parser.Parse(args)
	if err != nil {
		return nil, nil, &exitError{exitUsage, fmt.Errorf("%w: see `rocketrides%s --help`", err, named(err))}
	}
	return cmds, command, nil
}

// fail prints an error as one line and returns its exit code.
func fail(err error) int {
	code, line := verdict(err)
	if err != nil {
		fmt.Fprintln(os.Stderr, line)
	}
	return code
}

func verdict(err error) (code int, line string) {
	if err == nil {
		return 0, ""
	}
	line = "rocketrides: " + oneLine(err)
	if exit := new(exitError); errors.As(err, &exit) {
		return exit.code, line
	}
	return 1, line
}

// oneLine writes an error in one line, what it says twice once, and no passwords.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(parts, line) {
			parts = append(parts, line)
		}
	}
	return redact(strings.Join(parts, " "))
}
