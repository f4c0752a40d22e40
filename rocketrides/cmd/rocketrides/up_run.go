package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
)

// upRun is one run of up.
type upRun struct {
	*upCmd
	exe, logLevel string
	logger        *slog.Logger

	database cli.DatabaseFlags // from prepare on
	lastRide int64             // the last one of an earlier run
}

// controls are what up can be asked to do.
func (c *upRun) controls() *up.Controls {
	return &up.Controls{
		Settings:    c.settings(),
		NewConsumer: c.consumer,
		Forget:      c.forget,
		EmptyLog:    c.emptyLog,
		Write:       c.write,
		Booked:      c.booked,
		Timeout:     actionTimeout,
	}
}

// postgresAlone is the URL of a log that is the database's own archive.
const postgresAlone = "postgres:"

// prepare sees that the servers given are there, and migrates.
func (c *upRun) prepare(ctx context.Context, databaseURL, _ string) error {
	if c.RedisURL != "" || c.LogURL != "" && c.LogURL != postgresAlone {
		stream, err := c.log().OpenAt(ctx, program, nil, c.Schema, "")
		if err != nil {
			return err
		}
		stream.Close()
	}
	c.database = cli.DatabaseFlags{DatabaseURL: databaseURL, Schema: c.Schema}
	if err := c.database.Up(ctx, program, cli.MigrateTimeout); err != nil {
		return err
	}
	if err := c.database.Repartition(ctx, c.logger, program, cli.MigrateTimeout, c.Partitions); err != nil {
		return err
	}
	return c.ask(ctx, func(db *pgxpool.Pool) error {
		return db.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM rides`).Scan(&c.lastRide)
	})
}

func (c *upRun) log() *cli.LogFlags {
	return &cli.LogFlags{LogURL: c.LogURL, RedisURL: c.RedisURL, StreamName: c.StreamName}
}

func (c *upRun) ask(ctx context.Context, question func(*pgxpool.Pool) error) error {
	db, err := c.database.Open(ctx, program)
	if err != nil {
		return err
	}
	defer cli.ClosePool(db)
	return question(db)
}

func (c *upRun) write(ctx context.Context) (string, error) {
	ride, err := bookOne(ctx, c.Port)
	return fmt.Sprintf("ride %d of %s m is booked", ride.ID, ride.Distance), err
}

// booked counts rides. Index: rides_pkey.
func (c *upRun) booked(ctx context.Context) (n int64, err error) {
	err = c.ask(ctx, func(db *pgxpool.Pool) error {
		return db.QueryRow(ctx, `SELECT count(*) FROM rides WHERE id > $1`, c.lastRide).Scan(&n)
	})
	return n, err
}

// forget removes a consumer whose process has ended. One that was killed counts as
// running for two seconds more.
func (c *upRun) forget(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, forgetTimeout)
	defer cancel()
	for {
		err := c.ask(ctx, func(db *pgxpool.Pool) error { return rides.ForgetConsumer(ctx, db, c.Schema, name) })
		switch {
		case errors.Is(err, consumer.ErrUnknown):
			return nil
		case !errors.Is(err, consumer.ErrRunning):
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(forgetPause):
		}
	}
}

const forgetPause = 100 * time.Millisecond

// emptyLog removes each partition's stream, and the hash beside it that names its
// leader.
func (c *upRun) emptyLog(ctx context.Context) error {
	if c.LogURL != "" {
		return errors.New("the log can be emptied only where it is in the Redis of REDIS_URL")
	}
	var partitions int
	err := c.ask(ctx, func(db *pgxpool.Pool) error {
		return db.QueryRow(ctx, c.Schema.SQL(`SELECT count(*) FROM unilog.partitions`)).Scan(&partitions)
	})
	if err != nil {
		return err
	}
	stream, err := c.log().OpenAt(ctx, program, nil, c.Schema, "")
	if err != nil {
		return err
	}
	defer stream.Close()
	redis := cli.ServerOf(stream).Redis
	var errs []error
	for partition := range partitions {
		name := c.StreamName
		if partition > 0 {
			name += ":" + strconv.Itoa(partition)
		}
		for _, key := range []string{name, "{" + name + "}:leader"} {
			errs = append(errs, redis.Do(ctx, redis.B().Del().Key(key).Build()).Error())
		}
	}
	return errors.Join(errs...)
}

// processes are those of the Procfile, in groups as they stop.
func (c *upRun) processes() (writers, readers [][]up.Process) {
	// Plain HTTP, as nobody else can reach the api.
	simulator := c.process("simulator", "simulator", c.seed(), noAdmin,
		"--rate="+strconv.FormatFloat(c.Rate, 'g', -1, 64), "--for=0s", "--ca=",
		fmt.Sprintf("--url=http://127.0.0.1:%d", c.Port))
	api := c.process("api", "api", noAdmin, "--tls-cert=", "--tls-key=", "--tokens-file=")
	streamer := c.process("streamer", "streamer", c.seed(), c.failures(), noAdmin)
	var consumers []up.Process
	for i := range c.Consumers {
		consumers = append(consumers, c.consumer(consumerName(i)))
	}
	writers, readers = [][]up.Process{{simulator}, {api}}, [][]up.Process{{streamer}, consumers}
	if c.Dashboard > 0 {
		dashboard := c.process("dashboard", "dashboard", fmt.Sprintf("--port=%d", c.Dashboard))
		dashboard.Control = true
		readers = append(readers, []up.Process{dashboard}) // it shows how the others end
	}
	return writers, readers
}

// noAdmin is for those that could not share the one in the environment.
const noAdmin = "--admin-listen="

func (c *upRun) seed() string { return "--seed=" + strconv.FormatUint(c.Seed, 10) }

func (c *upRun) failures() string {
	return "--simulate-failures=" + strconv.FormatFloat(c.settings().Failures, 'g', -1, 64)
}

// settings are those that processes begin with.
func (c *upRun) settings() up.Settings {
	if c.NoFailures {
		return up.Settings{Rate: c.Rate}
	}
	return up.Settings{Rate: c.Rate, Failures: simulatedFailures}
}

func (c *upRun) consumer(name string) up.Process {
	return c.process(name, "consumer", name, c.seed(), c.failures(), noAdmin)
}

// process runs a command, which logs for up to show it to a person.
func (c *upRun) process(name, command string, args ...string) up.Process {
	logging := []string{"--log-format=json", "--log-level=" + c.logLevel}
	return up.Process{Name: name, Kind: command, Args: slices.Concat([]string{c.exe, command}, args, logging)}
}
