package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
)

// simulatedFailures is the share of batches that fail on purpose.
const simulatedFailures = 0.1

// upCmd runs the whole system.
type upCmd struct {
	DatabaseURL string        `name:"database-url" env:"DATABASE_URL" placeholder:"URL" help:"Postgres to use; without it, a private one is started."`
	Schema      unilog.Schema `env:"UNILOG_SCHEMA" placeholder:"NAME" help:"The schema of Postgres that the log's tables are in: unilog, if not set."`
	RedisURL    string        `name:"redis-url" env:"REDIS_URL" placeholder:"URL" help:"Redis to use; without it, a private one is started."`
	LogURL      string        `name:"log-url" env:"LOG_URL" placeholder:"URL" help:"Where the log is, if not in Redis: kafka://host:9092/topic, redis+cluster://, redis+sentinel://, or postgres: for the database itself. No Redis is started then."`
	StreamName  string        `name:"stream-name" env:"STREAM_NAME" default:"rocket-rides-log" help:"The Redis stream that is the log."`
	Port        uint16        `env:"API_PORT" default:"5005" help:"TCP port of the api."`
	Dashboard   uint16        `name:"dashboard-port" env:"DASHBOARD_PORT" default:"5006" help:"TCP port of the dashboard; 0 for none."`
	DataDir     string        `default:".rocketrides" type:"path" placeholder:"DIR" help:"Where the private servers keep their state between runs: .rocketrides here, if not set."`
	Fresh       bool          `help:"Remove the private servers' state first."`
	Rate        float64       `default:"10" help:"Rides a second."`
	Consumers   int           `default:"2" help:"How many consumers to run: consumer0, consumer1, …"`
	Partitions  int           `default:"0" help:"Give the log so many partitions, from 1 to 1,024; 0 keeps those that it has."`
	ServersOnly bool          `help:"Start the servers and migrate, but no processes."`
	NoFailures  bool          `help:"Simulate no failures; else every tenth batch fails."`
	Seed        uint64        `default:"0" help:"Makes random choices repeatable; 0 takes new seeds."`
	For         time.Duration `default:"0s" help:"Run that long, as 20s or 5m, then audit, and exit with 0 only if the audit holds; 0 runs until stopped."`
}

// Help follows the flags' own help.
func (*upCmd) Help() string {
	return `Starts a private Postgres and Redis where none are given, migrates, and runs api, streamer, consumers, simulator and dashboard. A process that dies is started again. Ctrl-C stops everything in order. How to reach it all is printed first, and written to the file env in the data directory.`
}

// Validate refuses what the processes would refuse.
func (c *upCmd) Validate() error {
	switch {
	case !(c.Rate > 0 && c.Rate <= maxRate):
		return rateError(c.Rate)
	case c.Consumers < 1 || c.Consumers > 100:
		return fmt.Errorf("--consumers is %d: it must be from 1 to 100", c.Consumers)
	case c.Port == 0:
		return errors.New("--port is 0: it must be from 1 to 65535")
	case c.Dashboard == c.Port:
		return fmt.Errorf("--dashboard-port is %d, as --port is: they must differ", c.Port)
	case c.ServersOnly && c.For > 0:
		return errors.New("--servers-only runs until stopped: leave out --for")
	case c.For < 0:
		return fmt.Errorf("--for is %v: it must not be negative", c.For)
	}
	return cli.CheckPartitions(c.Partitions)
}

// Run runs until ctx ends, or for the time asked for.
func (c *upCmd) Run(ctx context.Context, logging *cli.LoggingFlags) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	run := &upRun{upCmd: c, exe: exe, logLevel: childLevel(logging), logger: slog.Default()}
	writers, readers := run.processes()
	if c.ServersOnly {
		writers, readers = nil, nil
		c.Dashboard = 0
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(logging.LogLevel)); err != nil {
		return err
	}
	var text func(io.Writer) slog.Handler
	if logging.Format(true) == "text" {
		text = func(out io.Writer) slog.Handler { return cli.TextHandler(out, level, upColor()) }
		run.logger = slog.New(text(os.Stdout))
	}
	return up.Run(ctx, up.Config{
		DataDir:       c.DataDir,
		Fresh:         c.Fresh,
		DatabaseURL:   c.DatabaseURL,
		RedisURL:      c.RedisURL,
		NoRedis:       c.LogURL != "",
		Port:          int(c.Port),
		DashboardPort: int(c.Dashboard),
		Vars:          []string{"UNILOG_SCHEMA=" + c.Schema.Name(), "LOG_URL=" + c.LogURL, "STREAM_NAME=" + c.StreamName, "API_PORT=" + strconv.Itoa(int(c.Port))},
		Prepare:       run.prepare,
		Writers:       writers,
		Readers:       readers,
		For:           c.For,
		Audit:         up.Process{Name: "verify", Args: []string{exe, "verify", "--wait=" + auditPatience.String()}},
		Controls:      run.controls(),
		Output:        os.Stdout,
		Color:         upColor(),
		Text:          text,
		Level:         level,
	})
}

func consumerName(i int) string { return "consumer" + strconv.Itoa(i) }

// upColor also follows CLICOLOR_FORCE, as supervisors do.
func upColor() bool {
	forced := cmp.Or(os.Getenv("CLICOLOR_FORCE"), "0") != "0"
	return cli.WantColor() || forced && os.Getenv("NO_COLOR") == ""
}

// childLevel is for a child that another program listens to as well: it says
// what happens even if a person is to see less.
func childLevel(f *cli.LoggingFlags) string {
	if f.LogLevel == "debug" {
		return "debug"
	}
	return "info"
}
