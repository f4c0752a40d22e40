package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/streamer"
	"github.com/rocketrides/unilog/tracing"
)

type streamerCmd struct {
	databaseFlags `embed:""`
	logFlags      `embed:""`
	failureFlags  `embed:""`
	adminFlags    `embed:""`
	safetyFlags   `embed:""`
	Retention     time.Duration `env:"RETENTION" default:"24h" help:"How long the archive keeps records at least."`
	KeepRecords   int64         `env:"KEEP_RECORDS" default:"10000" help:"How many of the last records the log keeps at least."`
}

func (c *streamerCmd) Validate() error {
	switch {
	case c.Retention <= 0:
		return fmt.Errorf("--retention is %v: it must be over 0", c.Retention)
	case c.KeepRecords < 1:
		return fmt.Errorf("--keep-records is %d: it must be 1 or more", c.KeepRecords)
	}
	return c.failureFlags.Validate()
}

func (c *streamerCmd) Run(ctx context.Context, log *slog.Logger) error {
	traces, flush, err := startTracing(ctx, log, "streamer")
	if err != nil {
		return err
	}
	defer flush()
	db, err := c.databaseFlags.connect(ctx)
	if err != nil {
		return err
	}
	defer closePool(db)
	stream, err := c.logFlags.open(ctx, db)
	if err != nil {
		return err
	}
	defer stream.Close()
	if err := c.examine(ctx, log, doctor.Streamer, db, stream); err != nil {
		return err
	}

	cfg := streamer.Config{
		DB: db, Log: stream, Logger: log,
		Retention: c.Retention, KeepRecords: c.KeepRecords,
	}
	crash, err := c.hook(ctx, log, "streamer", "simulated crash after publishing, before recording it: the batch will be sent again")
	if err != nil {
		return err
	}
	report := reportPublished(log)
	cfg.Hooks.AfterAppend = func(ctx context.Context, entries []unilog.Entry) error {
		report(entries)
		if crash == nil {
			return nil
		}
		return crash(ctx, entries)
	}
	reg := c.registry()
	if reg != nil {
		cfg.Observer = cfg.Observer.And(metrics.Streamer(reg))
		reg.MustRegister(metrics.Status(db, stream))
	}
	if traces != nil {
		cfg.Observer = cfg.Observer.And(tracing.Streamer(traces))
	}
	streamer, err := streamer.New(cfg)
	if err != nil {
		return err
	}
	return c.runWorker(ctx, log, reg, streamer)
}

// reportPublished logs what is published for the first time, and of which
// partition, if there are several.
func reportPublished(log *slog.Logger) func([]unilog.Entry) {
	var mu sync.Mutex
	published := map[int]int64{} // by partition, up to where
	return func(entries []unilog.Entry) {
		mu.Lock()
		defer mu.Unlock()
		partition, first, last := entries[0].Partition, entries[0].Offset, entries[len(entries)-1].Offset
		if last <= published[partition] {
			return // sent again
		}
		published[partition] = last
		what := []any{"records", len(entries), "first", first, "last", last}
		if len(published) > 1 || partition > 0 {
			what = append(what, "partition", partition)
		}
		log.Info("published", what...)
	}
}
