package consumer

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// partitionConsumer reads one partition and applies it. It is not safe for
// concurrent use, but for its readiness.
type partitionConsumer struct {
	cfg       *Config
	partition int
	log       *slog.Logger
	readiness loop.Readiness

	// at is the checkpoint, and nil when it has to be read again.
	at *unilog.Cursor
	// logID names the log that the checkpoint belongs to; empty until it is known.
	logID string
	// limit is how many entries the next read asks for: fewer after a failure.
	limit     int
	heartbeat time.Time

	readsAhead bool // run does, RunOnce does not
	ahead      *readAhead
}

// run consumes until ctx ends, and then finishes the batch in hand, as long as
// work lives. It returns the errors of [Consumer.Run].
func (c *partitionConsumer) run(ctx, work context.Context) error {
	c.at = nil // another process may have gone on from it
	c.readsAhead = true
	defer func() {
		c.readsAhead = false
		c.dropAhead()
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

// step reads one batch, as long as ctx lives, and applies it, as long as work
// does.
func (c *partitionConsumer) step(ctx, work context.Context, wait time.Duration) (n int, err error) {
	defer func() {
		if err != nil {
			c.at = nil // what was committed is not known
			if ctx.Err() == nil {
				c.cfg.Observer.failed(err)
			}
		}
		if c.at == nil {
			c.dropAhead()
		}
		c.readiness.Note(ctx, err)
	}()
	if err := c.loadCheckpoint(ctx); err != nil {
		return 0, err
	}
	if err := c.beat(ctx); err != nil {
		return 0, err
	}
	entries, logID, err := c.read(ctx, wait)
	if err != nil {
		if ctx.Err() == nil {
			c.limit = max(1, c.limit/2)
		}
		return 0, err
	}
	if err := c.belong(logID); err != nil {
		return 0, err
	}
	entries = c.skipApplied(ctx, entries)
	if entries, err = c.fillGap(ctx, entries, wait > 0); err != nil {
		return 0, err
	}
	if len(entries) == 0 {
		return 0, nil
	}
	first := entries[0]
	entries, barrier := barrier.UpTo(entries)
	if barrier != nil {
		return c.passBarrier(ctx, work, barrier, first, wait)
	}
	c.startAhead(ctx, entries)
	n, err = c.apply(work, entries)
	// What is too much for one transaction succeeds in parts.
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

// skipApplied drops the entries up to the checkpoint. A log that holds each
// offset once gives none; reading on after them costs nothing either way.
func (c *partitionConsumer) skipApplied(ctx context.Context, entries []unilog.Entry) []unilog.Entry {
	n := 0
	for n < len(entries) && entries[n].Offset <= c.at.Offset {
		n++
	}
	if n > 0 {
		c.log.Info("skipped duplicates", "records", n, "first", entries[0].Offset, "last", entries[n-1].Offset)
		if c.cfg.Hooks.Skipped != nil {
			c.cfg.Hooks.Skipped(ctx, entries[:n])
		}
		if n == len(entries) {
			c.at.Position = entries[n-1].Position
		}
	}
	return entries[n:]
}
