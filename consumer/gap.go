package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// Index: log_partitions_pkey.
const sqlHeads = `SELECT next_offset - 1, published_offset, log_id::text FROM log_partitions WHERE partition = $1`

// fillGap returns the entries that directly follow the checkpoint: those given,
// up to the first one missing, or, if the missing ones come first, those from
// the archive. It never lets a reader pass over a missing entry.
//
// With quiet, the log had time to give entries and gave none: if there are some
// all the same, the log has lost them.
func (c *partitionConsumer) fillGap(ctx context.Context, entries []unilog.Entry, quiet bool) ([]unilog.Entry, error) {
	next := c.at.Offset + 1
	if len(entries) > 0 && entries[0].Offset == next {
		return entries[:reader.Consecutive(entries)], nil
	}
	if len(entries) == 0 && (!quiet || c.cfg.Archive == nil) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()

	var upTo int64
	if len(entries) > 0 {
		upTo = entries[0].Offset - 1
	} else {
		var err error
		if _, upTo, err = c.archiveHead(ctx); err != nil {
			return nil, err
		}
		if undone, err := c.undone(ctx); undone || err != nil {
			return nil, err
		}
	}
	if upTo < next {
		return nil, nil
	}
	gap := &unilog.GapError{Consumer: c.cfg.Name, Partition: c.partition, From: next, To: upTo, Archive: c.cfg.Archive != nil}
	found, err := reader.Fill(ctx, c.cfg.Archive, gap, c.cfg.BatchRecords)
	if err != nil || found == nil {
		if err == nil {
			err = c.confirm(ctx, gap)
		}
		return nil, err
	}
	c.log.Info("gap filled from the archive", "records", len(found), "first", next, "last", found[len(found)-1].Offset)
	c.cfg.Observer.gapFilled(found)
	return found, nil
}

// confirm returns the gap, unless another instance of the consumer has passed
// it: then this one overslept, and reads the checkpoint again.
func (c *partitionConsumer) confirm(ctx context.Context, gap *unilog.GapError) error {
	before := *c.at
	c.at = nil
	if err := c.loadCheckpoint(ctx); err != nil {
		return err
	}
	if c.at.Offset == before.Offset {
		return gap
	}
	return nil
}

// undone says whether the checkpoint is no longer what it was, as when Postgres
// has crashed before a commit was on disk. Without entries, nothing else would
// tell. It is then read again.
func (c *partitionConsumer) undone(ctx context.Context) (bool, error) {
	if !c.unsynced() {
		return false, nil
	}
	at, err := c.checkpoint(ctx)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return false, fmt.Errorf("read the checkpoint: %w", err)
	}
	if err == nil && at.Offset == c.at.Offset {
		return false, nil
	}
	c.at = nil
	return true, nil
}

// archiveHead returns what the source has numbered and published, and checks
// that it is this consumer's, which is not ahead of it.
func (c *partitionConsumer) archiveHead(ctx context.Context) (numbered, published int64, err error) {
	var logID string
	if err := c.cfg.Archive.QueryRow(ctx, sqlHeads, c.partition).Scan(&numbered, &published, &logID); err != nil {
		return 0, 0, fmt.Errorf("read the source's head: %w", err)
	}
	if err := c.belong(logID); err != nil {
		return 0, 0, err
	}
	if c.at.Offset > numbered {
		return 0, 0, &unilog.CheckpointAheadError{Consumer: c.cfg.Name, Partition: c.partition, Checkpoint: c.at.Offset, Database: numbered}
	}
	return numbered, published, nil
}

// checkSource sees that neither this consumer nor the log is ahead of the
// source. After a restore to an earlier time the log holds records that no
// longer are, until it is deleted: a consumer that was restored, too, would
// apply them.
func (c *partitionConsumer) checkSource(ctx context.Context) error {
	// The log first: what it holds by now the source has numbered by then.
	head, err := c.cfg.Log.Head(ctx, c.partition)
	if err != nil {
		return &unilog.LogError{Call: "read the log's head", Err: err}
	}
	numbered, _, err := c.archiveHead(ctx)
	if err == nil && head.Offset > numbered {
		err = &unilog.LogAheadError{Partition: c.partition, Log: head.Offset, Database: numbered}
	}
	return err
}
