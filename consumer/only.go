package consumer

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// passedPause is how long the checkpoint may be behind what was passed over.
const passedPause = time.Second

// asks says whether the handler is to get an entry. What a later version of the log has
// made for itself must not be passed over by one that does not know it.
func (c *partitionConsumer) asks(e *unilog.Entry) bool {
	return e.Object == unilog.ReservedObject || unilog.IncludedIn(c.cfg.Only, &e.Record)
}

// askedOf returns the entries that the handler is to get.
func (c *partitionConsumer) askedOf(entries []unilog.Entry) []unilog.Entry {
	if len(c.cfg.Only) == 0 {
		return entries
	}
	var asked []unilog.Entry
	for i := range entries {
		if c.asks(&entries[i]) {
			asked = append(asked, entries[i])
		}
	}
	return asked
}

// noteApplied notes the last of the entries that was applied, so that rejected ones in a
// row are known although others lie between.
func (c *partitionConsumer) noteApplied(entries []unilog.Entry) {
	if asked := c.askedOf(entries); len(asked) > 0 {
		c.applied = asked[len(asked)-1].Offset
	}
}

// asksForNone says whether the handler is to get none of the entries.
func (c *partitionConsumer) asksForNone(entries []unilog.Entry) bool {
	for i := range entries {
		if c.asks(&entries[i]) {
			return false
		}
	}
	return true
}

// passOver goes on after entries of which none was asked for, or after none at all, and
// saves the checkpoint when that is due.
func (c *partitionConsumer) passOver(ctx context.Context, entries []unilog.Entry) (int, error) {
	if n := len(entries); n > 0 {
		if !c.reader.Unsaved() {
			c.passed = time.Now()
		}
		c.reader.Pass(entries[n-1].Cursor())
	}
	if c.runs && c.untilDue(c.cfg.passedPause) > 0 {
		return len(entries), nil
	}
	if err := c.savePassed(ctx); err != nil {
		return 0, c.unlessOvertaken(err)
	}
	return len(entries), nil
}

// untilDue returns how long a read may wait for the next entry, since the checkpoint is
// to be saved then.
func (c *partitionConsumer) untilDue(wait time.Duration) time.Duration {
	if c.reader.Unsaved() {
		wait = min(wait, max(0, c.cfg.passedPause-time.Since(c.passed)))
	}
	return wait
}

// savePassed saves the checkpoint if entries were passed over since it was saved.
func (c *partitionConsumer) savePassed(ctx context.Context) error {
	if !c.reader.Unsaved() {
		return nil
	}
	to := c.reader.At()
	passed := to.Offset - c.reader.Saved().Offset
	err := c.save(ctx, to, func(context.Context, pgx.Tx) error { return nil })
	if err == nil {
		c.cfg.Observer.passedOver(passed)
	}
	return err
}

// keepPassed saves what was passed over before an error, so that it is not read again
// with each attempt. It does not matter much: if it fails, it is read again.
func (c *partitionConsumer) keepPassed(ctx context.Context, err error) {
	if errors.As(err, new(*unilog.LogAheadError)) {
		return // it may be what the source has lost
	}
	ctx, cancel := context.WithTimeout(ctx, loop.FarewellTimeout)
	defer cancel()
	if err := c.savePassed(ctx); err != nil {
		c.log.Debug("what was passed over is read again: the checkpoint could not be saved", "err", err)
	}
}
