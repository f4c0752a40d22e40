package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/rocketrides/unilog/internal/plainrelay"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/bench"
)

type benchCmd struct {
	Parts          []string      `arg:"" name:"part" help:"What to measure: api, streamer, consumer, latency, idle, backlog, scale, cost, relay, trickle, or all."`
	Records        int           `default:"1000000" help:"How many records to drain and to consume."`
	BacklogRecords int           `default:"5000000" help:"How long the longest backlog of part backlog is."`
	ScaleRecords   int           `default:"500000" help:"How many records there are for each figure of part scale."`
	Partitions     []int         `default:"1,2,4,8" help:"How many partitions there are, one number after the other, in part scale."`
	Engines        []string      `default:"redis,cluster,kafka,postgres" help:"What part scale measures: redis, cluster, kafka, postgres."`
	Rounds         int           `default:"3" help:"How often to measure each figure, after a warm-up that is a tenth as long."`
	For            time.Duration `default:"10s" help:"How long to measure each figure of api, latency, idle, relay and trickle, and to book for cost."`
	Plots          string        `type:"path" placeholder:"DIR" help:"Write plots there: drain.svg of part backlog, latency.svg of part latency."`
	JSON           bool          `name:"json" help:"Print JSON instead of a table."`
}

// Help follows the flags' own help.
func (*benchCmd) Help() string {
	return `Starts a private Postgres and Redis that sync each commit to disk, and the processes on them, and prints for each figure the median of the rounds, the least and the most, and the limit measured in the same round: by pgbench, redis-benchmark or a bare loop.

  api       bookings a second, and how long each takes
  streamer  draining a backlog
  consumer  consuming the whole log, alone and two at once
  latency   from the booking until a consumer has it, by the time at which the booking was due
  idle      what all cost that have nothing to do
  backlog   draining a long backlog, and one under an old snapshot
  scale     draining and consuming by the number of partitions, in Redis, a Redis
            Cluster, Kafka, and in Postgres alone
  cost      what a record costs: processor, bytes, at each step (Linux only)
  relay     the streamer next to a relay as a team would write it: processor and WAL
            of staging and draining, latency at common rates (Linux only)
  trickle   what 10 records a second leave behind; wants --for=10m

Everything is kept in a temporary directory and removed at the end; set TMPDIR if /tmp is not on the disk to be measured.`
}

// Validate refuses what cannot be measured.
func (c *benchCmd) Validate() error {
	switch {
	case c.Records < 1:
		return fmt.Errorf("--records is %d: it must be 1 or more", c.Records)
	case c.BacklogRecords < 1:
		return fmt.Errorf("--backlog-records is %d: it must be 1 or more", c.BacklogRecords)
	case c.ScaleRecords < 1:
		return fmt.Errorf("--scale-records is %d: it must be 1 or more", c.ScaleRecords)
	case len(c.Partitions) == 0 || slices.Min(c.Partitions) < 1 || slices.Max(c.Partitions) > migration.MaxPartitions:
		return fmt.Errorf("--partitions is %v: each must be from 1 to %d", c.Partitions, migration.MaxPartitions)
	case c.Rounds < 1:
		return fmt.Errorf("--rounds is %d: it must be 1 or more", c.Rounds)
	case c.For < time.Second:
		return fmt.Errorf("--for is %v: it must be 1s or more", c.For)
	}
	for _, name := range c.Parts {
		if name != "all" && !slices.Contains(bench.Parts(), name) {
			return fmt.Errorf("there is no part %q: choose from %s, or all", name, strings.Join(bench.Parts(), ", "))
		}
	}
	for _, name := range c.Engines {
		if !slices.Contains(bench.Engines(), name) {
			return fmt.Errorf("there is no engine %q: choose from %s", name, strings.Join(bench.Engines(), ", "))
		}
	}
	return nil
}

func (c *benchCmd) Run(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if slices.Contains(c.Parts, "all") {
		c.Parts = bench.Parts()
	}
	// What consumers within this process say is no part of the report.
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})))
	var live io.Writer
	if term.IsTerminal(int(os.Stderr.Fd())) {
		live = os.Stderr
	}
	err = bench.Run(ctx, bench.Config{
		Command:        exe,
		Migrate:        migrateAll,
		Parts:          c.Parts,
		Records:        c.Records,
		BacklogRecords: c.BacklogRecords,
		ScaleRecords:   c.ScaleRecords,
		Partitions:     c.Partitions,
		Engines:        c.Engines,
		Rounds:         c.Rounds,
		For:            c.For,
		Plots:          c.Plots,
		JSON:           c.JSON,
		Out:            os.Stdout,
		Live:           live,
	})
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted before the end: nothing is reported")
	}
	return err
}

// relayCmd is the plain relay of part relay.
type relayCmd struct {
	DatabaseURL string `required:"" env:"DATABASE_URL"`
	RedisURL    string `required:"" env:"REDIS_URL"`
}

func (c *relayCmd) Run(ctx context.Context) error {
	return plainrelay.Run(ctx, plainrelay.Config{DatabaseURL: c.DatabaseURL, RedisURL: c.RedisURL})
}
