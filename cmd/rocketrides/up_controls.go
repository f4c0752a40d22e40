package main

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/rides"
	"github.com/rocketrides/unilog/internal/up"
)

// upControls does what up is asked to do to the servers.
type upControls struct {
	*upCmd
	exe, logLevel string

	database databaseFlags // from prepare on
	lastRide int64         // the last one of an earlier run
}

func (c *upControls) config() *up.Controls {
	return &up.Controls{
		Settings:    c.settings(),
		NewConsumer: func(name string) up.Process { return c.consumer(c.exe, c.logLevel, name) },
		Forget:      c.forget,
		EmptyLog:    c.emptyLog,
		Booked:      c.booked,
	}
}

// prepare sees that the servers given are there, and migrates.
func (c *upControls) prepare(ctx context.Context, databaseURL, _ string) error {
	if c.RedisURL != "" {
		stream, err := c.log().open(ctx)
		if err != nil {
			return err
		}
		stream.Close()
	}
	if err := migrateAll(ctx, databaseURL); err != nil {
		return err
	}
	c.database.DatabaseURL = databaseURL
	return c.ask(ctx, func(db *pgxpool.Pool) error {
		return db.QueryRow(ctx, `SELECT coalesce(max(id), 0) FROM rides`).Scan(&c.lastRide)
	})
}

func (c *upControls) log() *logFlags {
	return &logFlags{RedisURL: c.RedisURL, StreamName: c.StreamName}
}

func (c *upControls) ask(ctx context.Context, question func(*pgxpool.Pool) error) error {
	db, err := c.database.open(ctx)
	if err != nil {
		return err
	}
	defer closePool(db)
	return question(db)
}

// booked counts rides. Index: rides_pkey.
func (c *upControls) booked(ctx context.Context) (n int64, err error) {
	err = c.ask(ctx, func(db *pgxpool.Pool) error {
		return db.QueryRow(ctx, `SELECT count(*) FROM rides WHERE id > $1`, c.lastRide).Scan(&n)
	})
	return n, err
}

func (c *upControls) forget(ctx context.Context, name string) error {
	return c.ask(ctx, func(db *pgxpool.Pool) error {
		return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
			_, err := rides.ForgetConsumer(ctx, tx, name)
			return err
		})
	})
}

// emptyLog removes the stream, and the hash beside it that names its leader.
func (c *upControls) emptyLog(ctx context.Context) error {
	stream, err := c.log().open(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	redis := stream.Client()
	var errs []error
	for _, key := range []string{c.StreamName, "{" + c.StreamName + "}:leader"} {
		errs = append(errs, redis.Do(ctx, redis.B().Del().Key(key).Build()).Error())
	}
	return errors.Join(errs...)
}
