package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/tracing"
)

type consumerCmd struct {
	cli.WorkerFlags `embed:""`
	failureFlags    `embed:""`
	Name            string `arg:"" help:"The consumer's name, under which its state and checkpoint are kept."`
	Bootstrap       bool   `help:"If the consumer is new, begin at the log's head, with the total of all rides so far, instead of reading the history."`
	ParkRejected    bool   `env:"PARK_REJECTED" help:"Put records that cannot be applied into dead_letters and go on, instead of halting."`
}

const (
	// maxName keeps names readable.
	maxName = 100
	// bootstrapTimeout bounds the audit of all rides so far.
	bootstrapTimeout = 10 * time.Minute
)

func (c *consumerCmd) Validate() error {
	if n := utf8.RuneCountInString(c.Name); n > maxName {
		return fmt.Errorf("the consumer's name has %d characters: it must have at most %d", n, maxName)
	}
	return c.failureFlags.Validate()
}

func (c *consumerCmd) Run(ctx context.Context, log *slog.Logger, p *cli.Program) error {
	traces, flush, err := p.StartTracing(ctx, log, "consumer")
	if err != nil {
		return err
	}
	defer flush()
	servers, err := c.Reach(ctx, log, p, doctor.Consumer)
	if err != nil {
		return err
	}
	defer servers.Close()
	db, stream := servers.DB, servers.Log

	err = c.AwaitServer(ctx, log, func(ctx context.Context) error { return c.register(ctx, log, db) })
	if err != nil || ctx.Err() != nil {
		return err
	}
	distances := &rides.Consumer{Name: c.Name, Logger: log}
	cfg := consumer.Config{
		Name: c.Name, DB: db, Archive: db, Schema: c.Schema, Log: stream, Logger: log,
		Handler: distances.Handle, HandlerTimeout: handlerTimeout, ParkRejected: c.ParkRejected, RetryHalted: cli.HaltedPause,
		Hooks: consumer.Hooks{AfterCommit: distances.Report},
	}
	cfg.Hooks.BeforeCommit, err = c.hook(ctx, log, c.Name, "simulated crash before saving: nothing has changed, the records are read again")
	if err != nil {
		return err
	}
	reg := c.Registry()
	if reg != nil {
		cfg.Observer = cfg.Observer.And(metrics.Consumer(reg, c.Name))
	}
	if traces != nil {
		cfg.Observer = cfg.Observer.And(tracing.Consumer(traces, c.Name))
	}
	consumer, err := consumer.New(cfg)
	if err != nil {
		return err
	}
	return c.Work(ctx, log, reg, servers.Safety, consumer)
}

// register makes the rows of a consumer that is new. It returns nil if ctx ends.
func (c *consumerCmd) register(ctx context.Context, log *slog.Logger, db *pgxpool.Pool) error {
	if c.Bootstrap {
		bounded, cancel := context.WithTimeout(ctx, bootstrapTimeout)
		defer cancel()
		created, err := rides.AuditIn(c.Schema).Bootstrap(bounded, db, c.Name)
		if err != nil {
			return cli.Unanswered(err, "see what holds it up, and start the consumer again")
		}
		if created {
			log.Info("bootstrapped at the log's head, with the total of all rides so far", "consumer", c.Name)
		}
	}
	bounded, cancel := context.WithTimeout(ctx, handlerTimeout)
	defer cancel()
	if err := rides.Register(bounded, db, c.Schema, c.Name); err != nil && ctx.Err() == nil {
		return cli.Unanswered(err, "see what holds it up, and start the consumer again")
	}
	return nil
}
