package reader

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
)

// Index: log_partitions_pkey.
const sqlSource = `SELECT next_offset - 1, published_offset, log_id::text FROM log_partitions WHERE partition = $1`

// fillGap returns the entries that directly follow the checkpoint: those given, up
// to the first one that is missing, or, if the missing ones come first, those from
// the archive. It never lets a reader pass over a missing entry.
//
// With quiet, the log had time to give entries and gave none: if there are some
// all the same, the log has lost them.
func (r *Reader) fillGap(ctx context.Context, entries []unilog.Entry, quiet bool) ([]unilog.Entry, error) {
	next := r.at.Offset + 1
	if len(entries) > 0 && entries[0].Offset == next {
		return entries[:consecutive(entries)], nil
	}
	if len(entries) == 0 && (!quiet || r.cfg.Archive == nil) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	var upTo int64
	if len(entries) > 0 {
		upTo = entries[0].Offset - 1
	} else {
		// Up to what is published, not to what is numbered: a commit that is visible
		// may still be lost until the streamer knows that it is safe.
		var err error
		if _, upTo, err = r.source(ctx); err != nil {
			return nil, err
		}
		if undone, err := r.undone(ctx); undone || err != nil {
			return nil, err
		}
	}
	if upTo < next {
		return nil, nil
	}
	gap := &unilog.GapError{Consumer: r.cfg.Name, Partition: r.cfg.Partition, From: next, To: upTo, Archive: r.cfg.Archive != nil}
	found, err := r.fromArchive(ctx, gap)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, r.confirm(ctx, gap)
	}
	r.cfg.Logger.Info("gap filled from the archive", "records", len(found), "first", next, "last", found[len(found)-1].Offset)
	r.cfg.GapFilled(found)
	return found, nil
}

// fromArchive returns entries from the first missing one on, or none if there is no
// archive that has it: then the gap is narrowed to what nobody has.
func (r *Reader) fromArchive(ctx context.Context, gap *unilog.GapError) (found []unilog.Entry, err error) {
	if r.cfg.Archive == nil {
		return nil, nil
	}
	// Twice: a query that was planned before the archive got a chunk does not see it.
	for range 2 {
		if found, err = archive.Read(ctx, r.cfg.Archive, gap.Partition, gap.From-1, gap.To, r.limit); err != nil {
			return nil, err
		}
		if len(found) > 0 && found[0].Offset == gap.From {
			return found[:consecutive(found)], nil
		}
	}
	if len(found) > 0 {
		gap.To = found[0].Offset - 1
	}
	return nil, nil
}

// confirm returns the gap, unless another instance has passed it: then this one
// overslept, and goes on from the checkpoint as it is now.
func (r *Reader) confirm(ctx context.Context, gap *unilog.GapError) error {
	before := r.at.Offset
	r.Forget()
	if err := r.Load(ctx); err != nil {
		return err
	}
	if r.at.Offset == before {
		return gap
	}
	return nil
}

// undone says whether the checkpoint is no longer what it was, because Postgres has
// crashed before a commit was on disk. Where the log gives entries, saving the next
// checkpoint finds out; without entries, nothing else would. It is then loaded again.
func (r *Reader) undone(ctx context.Context) (bool, error) {
	if !r.cfg.Unsynced {
		return false, nil
	}
	at, err := r.cfg.Checkpoint.Load(ctx)
	if err != nil || at.Offset == r.at.Offset {
		return false, err
	}
	r.Forget()
	return true, nil
}

// source returns what the source has numbered and published, and checks that it is
// the checkpoint's, which is not ahead of it.
func (r *Reader) source(ctx context.Context) (numbered, published int64, err error) {
	var logID string
	if err := r.cfg.Archive.QueryRow(ctx, sqlSource, r.cfg.Partition).Scan(&numbered, &published, &logID); err != nil {
		return 0, 0, fmt.Errorf("read the source's head: %w", err)
	}
	if err := r.cfg.Checkpoint.CheckSource(logID); err != nil {
		return 0, 0, err
	}
	if r.at.Offset > numbered {
		return 0, 0, &unilog.CheckpointAheadError{Consumer: r.cfg.Name, Partition: r.cfg.Partition, Checkpoint: r.at.Offset, Database: numbered}
	}
	return numbered, published, nil
}

// checkSource checks that neither the checkpoint nor the log is ahead of the source.
// After a restore to an earlier time the log holds records of the lost time, until
// it is deleted; an owner that was restored, too, would take them for the next ones.
func (r *Reader) checkSource(ctx context.Context) error {
	// The log first: what it holds by now, the source has numbered by then.
	head, err := r.Head(ctx)
	if err != nil {
		return err
	}
	numbered, _, err := r.source(ctx)
	if err != nil || head.Offset <= numbered {
		return err
	}
	// Another database's log may be longer, too, and says nothing about this one.
	if err := r.cfg.Checkpoint.CheckLog(head.LogID); err != nil {
		return err
	}
	return &unilog.LogAheadError{Partition: r.cfg.Partition, Log: head.Offset, Database: numbered}
}

// consecutive returns how many of the entries follow each other directly.
func consecutive(entries []unilog.Entry) int {
	for i := 1; i < len(entries); i++ {
		if entries[i].Offset != entries[i-1].Offset+1 {
			return i
		}
	}
	return len(entries)
}
