package consumer

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// partitionConsumer reads one partition and applies it. It is not safe for
// concurrent use, except for its readiness.
type partitionConsumer struct {
	cfg        *Config
	partition  int
	log        *slog.Logger
	readiness  loop.Readiness
	condition  condition
	checkpoint *checkpoint
	reader     *reader.Reader

	// limit is how many entries the next transaction gets: fewer after a failure.
	limit      int
	applied    int64        // the last offset that the handler has applied in this process, or 0
	passed     time.Time    // when entries were passed over first, since the checkpoint was saved
	runs       bool         // in Run; RunOnce must neither go on reading when it has returned, nor leave anything unsaved
	sets       bool         // the handler may have changed the session's settings
	leaves     bool         // it has left some behind, which was said
	several    bool         // there are other partitions, which go on while this one cannot
	saysPaused *atomic.Bool // somebody has logged it
	requeued   bool         // there may be dead letters to be applied again
}

func newPartitionConsumer(cfg *Config, partition int, log *slog.Logger) *partitionConsumer {
	checkpoint := &checkpoint{db: cfg.DB, schema: cfg.Schema, name: cfg.Name, partition: partition}
	return &partitionConsumer{
		cfg: cfg, partition: partition, log: log, limit: cfg.BatchRecords, checkpoint: checkpoint,
		reader: reader.New(reader.Config{
			Name: cfg.Name, Partition: partition, Checkpoint: checkpoint, Log: cfg.Log, Archive: cfg.Archive, Schema: cfg.Schema,
			Unsynced: unsynced(cfg), Limit: cfg.BatchRecords, Logger: log,
			Skipped: cfg.Hooks.Skipped, GapFilled: cfg.Observer.gapFilled,
		}),
	}
}

// run consumes until ctx ends, and then finishes the batch in hand, unless work ends
// first. It returns the errors of [Consumer.Run].
func (c *partitionConsumer) run(ctx, work context.Context) error {
	c.runs = true
	defer func() {
		c.runs = false
		c.reader.Leave() // another process may move the checkpoint until the next run
	}()
	c.requeued = true
	said := ""
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		_, err := c.step(ctx, work, reader.ReadWait)
		var paused *unilog.PausedError
		switch {
		case err == nil:
			retry.Reset()
			said = ""
			c.saysPaused.CompareAndSwap(true, false)
		case errors.As(err, &paused):
			c.waitPaused(ctx, paused)
		case c.halts(err):
			pause := c.haltedPause(err)
			if pause == 0 {
				return err
			}
			if text := err.Error(); text != said {
				c.log.Error("halted until this is mended: trying again from time to time", "every", pause, "err", err)
				said = text
			}
			loop.Sleep(ctx, pause)
		case errors.Is(err, errHung):
			c.log.Error("consuming stands still until the handler returns", "err", err)
			c.condition.hang.Wait(ctx)
		case errors.Is(err, unilog.ErrSimulated):
			c.log.Debug("simulated failure: starting again from the checkpoint")
		case ctx.Err() != nil:
		default:
			c.log.Warn("consuming failed: trying again", "err", err)
			retry.Wait(ctx)
		}
	}
	c.keepPassed(work, nil)
	return nil
}

// halts says whether a person must decide what is to be done about an error.
func (c *partitionConsumer) halts(err error) bool {
	for _, target := range []any{new(*unilog.RejectedError), new(*unilog.GapError), new(*unilog.CheckpointAheadError), new(*unilog.ForeignLogError), new(*unilog.FormatError), new(*unilog.NotArchivedError)} {
		if errors.As(err, target) {
			return true
		}
	}
	for _, target := range []error{unilog.ErrDeliverersName, unilog.ErrCheckpointGone, unilog.ErrTransactionSpoiled, loop.ErrExit} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// haltedPause is how long the partition waits until it tries again what it has halted
// for, or 0 if it does not.
func (c *partitionConsumer) haltedPause(err error) time.Duration {
	switch {
	case errors.Is(err, loop.ErrExit):
		return 0
	case c.cfg.RetryHalted > 0:
		return c.cfg.RetryHalted
	case errors.As(err, new(*unilog.GapError)) && c.several:
		return reader.GapPause
	}
	return 0
}

// step reads one batch and applies it, or passes it over, and returns how many entries
// that were. ctx bounds the reading, and work the applying.
func (c *partitionConsumer) step(ctx, work context.Context, wait time.Duration) (n int, err error) {
	defer func() {
		trouble := err
		if err != nil {
			c.keepPassed(work, err)
			c.reader.Forget() // whether the checkpoint has moved is not known
			err = postgres.Reconnect(c.cfg.DB, err)
			if trouble = err; errors.As(err, new(*unilog.PausedError)) {
				trouble = nil // somebody wants it so
			} else if ctx.Err() == nil {
				c.cfg.Observer.failed(err)
			}
		}
		c.noteHalt(work, err)
		c.readiness.Note(ctx, trouble)
	}()
	if err := c.condition.hang.Err(); err != nil {
		return 0, err
	}
	again := 0
	if c.requeued {
		if again, err = c.applyRequeued(work); err != nil {
			return again, err
		}
	}
	n, err = c.next(ctx, work, wait)
	return again + n, err
}

// noteHalt notes with the checkpoint that the partition has halted, or that it no longer
// has, after a step that has ended with err.
func (c *partitionConsumer) noteHalt(ctx context.Context, err error) {
	at := reader.Owner{DB: c.cfg.DB, Schema: c.cfg.Schema, Name: c.cfg.Name, Partition: c.partition}
	var noteErr error
	switch {
	case err != nil && c.halts(err):
		c.checkpoint.troubled, noteErr = true, reader.NoteHalt(ctx, at, err)
	case err == nil && c.checkpoint.troubled:
		noteErr = reader.ClearHalt(ctx, at)
		c.checkpoint.troubled = noteErr != nil
	}
	if noteErr != nil {
		c.log.Debug("could not note in the database whether the consumer has halted", "err", noteErr)
	}
}

// next does so with what follows the checkpoint.
func (c *partitionConsumer) next(ctx, work context.Context, wait time.Duration) (n int, err error) {
	entries, b, err := c.read(ctx, c.untilDue(wait))
	switch {
	case err != nil:
		return 0, err
	case b != nil:
		return c.passBarrier(ctx, work, b, entries[0], wait)
	case c.asksForNone(entries):
		return c.passOver(work, entries)
	}
	if c.runs {
		c.reader.ReadAhead(ctx, entries)
	}
	n, err = c.apply(work, entries)
	// Entries that are too many for one transaction succeed in smaller ones.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, errHung) {
		c.limit = min(c.limit, len(entries))
	}
	if err != nil {
		c.limit = max(1, c.limit/2)
	} else {
		c.limit = min(2*c.limit, c.cfg.BatchRecords)
	}
	return n, err
}

// read returns the entries to apply next.
func (c *partitionConsumer) read(ctx context.Context, wait time.Duration) (entries []unilog.Entry, b *barrier.Barrier, err error) {
	c.condition.reads()
	if err = c.reader.Load(ctx); err == nil {
		c.applied = min(c.applied, c.reader.Saved().Offset) // somebody may have moved it back
		entries, b, err = c.reader.Next(ctx, wait, c.limit)
	}
	if errors.As(err, new(*unilog.GapError)) || errors.As(err, new(*unilog.PausedError)) {
		c.condition.hasRead(nil) // no process could read it
	} else {
		c.condition.hasRead(err)
	}
	return entries, b, err
}

// try looks whether the partition can be worked on again. Nobody else may work on it
// meanwhile.
func (c *partitionConsumer) try(ctx context.Context) error {
	err := c.condition.hang.Err()
	if err == nil {
		err = c.reader.Try(ctx)
	}
	if errors.As(err, new(*unilog.PausedError)) {
		err = nil
	}
	if err != nil && ctx.Err() == nil {
		c.readiness.Note(ctx, err)
		c.cfg.Observer.failed(err)
	}
	return err
}
