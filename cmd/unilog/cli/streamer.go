package cli

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/metrics"
	"github.com/rocketrides/unilog/streamer"
	"github.com/rocketrides/unilog/tracing"
)

// Streamer numbers staged records and publishes them.
type Streamer struct {
	WorkerFlags `embed:""`
	Retention   time.Duration `env:"RETENTION" default:"24h" help:"How long the archive keeps records at least."`
	KeepRecords int64         `env:"KEEP_RECORDS" default:"10000" help:"How many of the last records the log keeps at least."`
	KeepBytes   int64         `env:"KEEP_BYTES" default:"268435456" help:"How many bytes of records the log keeps of a partition at the most."`
	ExpiryFlag  `embed:""`

	// AfterAppend is the streamer's hook of that name, see streamer.Hooks.
	AfterAppend func(ctx context.Context, entries []unilog.Entry) error `kong:"-"`
}

// Validate refuses what the library would refuse.
func (c *Streamer) Validate() error {
	switch {
	case c.Retention <= 0:
		return fmt.Errorf("--retention is %v: it must be over 0", c.Retention)
	case c.KeepRecords < 1:
		return fmt.Errorf("--keep-records is %d: it must be 1 or more", c.KeepRecords)
	case c.KeepBytes < 1:
		return fmt.Errorf("--keep-bytes is %d: it must be 1 or more", c.KeepBytes)
	}
	return c.ExpiryFlag.Validate()
}

// ExpiryFlag says for whom records are kept, and for how long if he is silent.
type ExpiryFlag struct {
	KeepForReports bool          `env:"KEEP_FOR_REPORTS" help:"Keep records also for consumers elsewhere, which report through the log: the same for all streamers and log switch."`
	ConsumerExpiry time.Duration `env:"CONSUMER_EXPIRY" default:"168h" help:"How long a consumer may be silent until nothing is kept for it any more: the same for all streamers and log switch."`
}

// Validate refuses what the library would refuse.
func (c *ExpiryFlag) Validate() error {
	if c.ConsumerExpiry < time.Minute {
		return fmt.Errorf("--consumer-expiry is %v: it must be 1m or more", c.ConsumerExpiry)
	}
	return nil
}

// Run streams until ctx ends.
func (c *Streamer) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	traces, flush, err := p.StartTracing(ctx, log, "streamer")
	if err != nil {
		return err
	}
	defer flush()
	servers, err := c.Reach(ctx, log, p, doctor.Streamer)
	if err != nil {
		return err
	}
	defer servers.Close()
	db, stream := servers.DB, servers.Log

	cfg := streamer.Config{
		DB: db, Log: stream, Schema: c.Schema, Logger: log,
		Retention: c.Retention, KeepRecords: c.KeepRecords, KeepBytes: c.KeepBytes, ConsumerExpiry: c.ConsumerExpiry, KeepForReports: c.KeepForReports,
	}
	report := published{log: log, spans: map[int]*span{}}
	defer report.rest()
	cfg.Hooks.AfterAppend = func(ctx context.Context, entries []unilog.Entry) error {
		report.add(entries)
		if c.AfterAppend == nil {
			return nil
		}
		return c.AfterAppend(ctx, entries)
	}
	reg := c.Registry()
	if reg != nil {
		cfg.Observer = cfg.Observer.And(metrics.Streamer(reg))
		reg.MustRegister(metrics.Status(db, c.Schema, stream))
	}
	if traces != nil {
		cfg.Observer = cfg.Observer.And(tracing.Streamer(traces))
	}
	streamer, err := streamer.New(cfg)
	if err != nil {
		return err
	}
	return c.RunWorker(ctx, log, reg, servers.Safety, streamer)
}
