package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// partitionConsumer reads one partition and applies it. It is not safe for
// concurrent use, except for its readiness.
type partitionConsumer struct {
	cfg        *Config
	partition  int
	log        *slog.Logger
	readiness  loop.Readiness
	checkpoint *checkpoint
	reader     *reader.Reader

	// limit is how many entries the next transaction gets: fewer after a failure.
	limit      int
	readsAhead bool // in Run; RunOnce must not go on reading when it has returned
}

func newPartitionConsumer(cfg *Config, partition int, log *slog.Logger) *partitionConsumer {
	checkpoint := &checkpoint{db: cfg.DB, name: cfg.Name, partition: partition}
	return &partitionConsumer{
		cfg: cfg, partition: partition, log: log, limit: cfg.BatchRecords, checkpoint: checkpoint,
		reader: reader.New(reader.Config{
			Name: cfg.Name, Partition: partition, Checkpoint: checkpoint, Log: cfg.Log, Archive: cfg.Archive,
			Unsynced: unsynced(cfg), Limit: cfg.BatchRecords, Logger: log,
			Skipped: cfg.Hooks.Skipped, GapFilled: cfg.Observer.gapFilled,
		}),
	}
}

// run consumes until ctx ends, and then finishes the batch in hand, unless work ends
// first. It returns the errors of [Consumer.Run].
func (c *partitionConsumer) run(ctx, work context.Context) error {
	c.readsAhead = true
	defer func() {
		c.readsAhead = false
		c.reader.Forget() // another process may move the checkpoint until the next run
	}()
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		_, err := c.step(ctx, work, reader.ReadWait)
		var rejected *unilog.RejectedError
		var gap *unilog.GapError
		var ahead *unilog.CheckpointAheadError
		var foreign *unilog.ForeignLogError
		switch {
		case err == nil:
			retry.Reset()
		case errors.As(err, &rejected), errors.As(err, &gap), errors.As(err, &ahead), errors.As(err, &foreign),
			errors.Is(err, unilog.ErrDeliverersName):
			return err
		case errors.Is(err, unilog.ErrSimulated):
			c.log.Debug("simulated failure: starting again from the checkpoint")
		case ctx.Err() != nil:
		default:
			c.log.Warn("consuming failed: trying again", "err", err)
			retry.Wait(ctx)
		}
	}
	return nil
}

// step reads one batch and applies it, and returns how many entries that were. ctx
// bounds the reading, and work the applying.
func (c *partitionConsumer) step(ctx, work context.Context, wait time.Duration) (n int, err error) {
	defer func() {
		if err != nil {
			c.reader.Forget() // whether the checkpoint has moved is not known
			if ctx.Err() == nil {
				c.cfg.Observer.failed(err)
			}
		}
		c.readiness.Note(ctx, err)
	}()
	if err := c.reader.Load(ctx); err != nil {
		return 0, err
	}
	if err := c.checkpoint.beat(ctx); err != nil {
		return 0, err
	}
	entries, barrier, err := c.reader.Next(ctx, wait, c.limit)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	if barrier != nil {
		return c.passBarrier(ctx, work, barrier, entries[0], wait)
	}
	if c.readsAhead {
		c.reader.ReadAhead(ctx, entries)
	}
	n, err = c.apply(work, entries)
	// Entries that are too many for one transaction succeed in smaller ones.
	if errors.Is(err, context.DeadlineExceeded) {
		c.limit = min(c.limit, len(entries))
	}
	if err != nil {
		c.limit = max(1, c.limit/2)
	} else {
		c.limit = min(2*c.limit, c.cfg.BatchRecords)
	}
	return n, err
}
