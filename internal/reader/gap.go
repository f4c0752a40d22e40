package reader

import (
	"context"
	"errors"
	"fmt"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Index: partitions_pkey.
const sqlSource = `
SELECT next_offset - 1, published_offset, log_id::text, format::text, ` + postgres.SQLReadOnly + `
FROM unilog.partitions CROSS JOIN unilog.log WHERE partition = $1`

// sourceHead is how far the source is. One that takes no writes is a standby, or the old
// primary of a switchover: what it lacks it may get, or another server has it.
type sourceHead struct {
	numbered, published int64
	readOnly            bool
}

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
		source, err := r.source(ctx)
		if err != nil {
			return nil, err
		}
		upTo = source.published
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
		if err := r.archiveHas(ctx, gap); err != nil {
			return nil, err
		}
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
	found, err = archive.Read(ctx, r.cfg.Archive, r.cfg.Schema, gap.Partition, gap.From-1, gap.To, r.limit)
	if damaged := new(archive.DamagedError); errors.As(err, &damaged) {
		gap.To, gap.Damaged = min(gap.To, damaged.Last), true
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(found) > 0 && found[0].Offset == gap.From {
		return found, nil
	}
	last, hasEarlier, err := archive.Lacks(ctx, r.cfg.Archive, r.cfg.Schema, gap.Partition, gap.From, gap.To)
	if err != nil {
		return nil, err
	}
	if last >= gap.From { // else it was put back meanwhile
		gap.To, gap.Damaged = last, hasEarlier
	}
	return nil, nil
}

// confirm returns the gap, unless another instance has passed it: then this one
// overslept, and goes on from the checkpoint as it is now.
func (r *Reader) confirm(ctx context.Context, gap *unilog.GapError) error {
	at, saved := r.at, r.saved
	r.Forget()
	if err := r.Load(ctx); err != nil {
		return err
	}
	if r.saved.Offset == saved.Offset {
		r.at = at // so that what was passed over before the gap can be saved
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
	if err != nil || at.Offset == r.saved.Offset {
		return false, err
	}
	r.Forget()
	return true, nil
}

// archiveHas returns an error if the archive is not as far as a gap that begins before
// what the log gave: it may be given what is missing.
func (r *Reader) archiveHas(ctx context.Context, gap *unilog.GapError) error {
	if r.cfg.Archive == nil {
		return nil
	}
	source, err := r.source(ctx)
	if err != nil || source.numbered >= gap.From {
		return err
	}
	return r.lags(gap.To+1, source)
}

// lags lets a source be asked anew that takes no writes: its address may lead to the one
// that has what is missing.
func (r *Reader) lags(offset int64, source sourceHead) error {
	if source.readOnly {
		r.cfg.Archive.Reset()
	}
	return &unilog.ArchiveLagsError{Consumer: r.cfg.Name, Partition: r.cfg.Partition, Offset: offset, Archive: source.numbered, ReadOnly: source.readOnly}
}

// source returns how far the source is, and checks that it is the checkpoint's, which is
// not ahead of it.
func (r *Reader) source(ctx context.Context) (source sourceHead, err error) {
	var logID, format string
	err = r.cfg.Archive.QueryRow(ctx, r.cfg.Schema.SQL(sqlSource), r.cfg.Partition).
		Scan(&source.numbered, &source.published, &logID, &format, &source.readOnly)
	if err != nil {
		return source, fmt.Errorf("read the source's head: %w", postgres.Missing(ctx, r.cfg.Archive, r.cfg.Schema.Name(), err, "partitions", "log"))
	}
	if err := unilog.CheckFormat(format); err != nil {
		return source, err
	}
	if err := r.cfg.Checkpoint.CheckSource(logID); err != nil {
		return source, err
	}
	if r.at.Offset > source.numbered {
		return source, r.isAhead(ctx, logID, source)
	}
	return source, nil
}

// isAhead says what to make of a checkpoint that the archive is not at yet. A standby,
// or another copy of the source, may lag; then the log has that offset, under the id of
// the archive. An id is that of the log's database for ever, and a log that was emptied
// and not claimed since has none: it says nothing.
func (r *Reader) isAhead(ctx context.Context, archiveID string, source sourceHead) error {
	if source.readOnly {
		return r.lags(r.at.Offset, source)
	}
	if !r.cfg.Unsynced {
		head, err := r.Head(ctx)
		if err != nil {
			return err
		}
		if head.LogID == "" || head.LogID == archiveID && head.Offset >= r.at.Offset {
			return r.lags(r.at.Offset, source)
		}
	}
	if r.saved.Offset <= source.numbered { // it is only the log that was ahead
		return &unilog.LogAheadError{Partition: r.cfg.Partition, Log: r.at.Offset, Database: source.numbered}
	}
	return &unilog.CheckpointAheadError{Consumer: r.cfg.Name, Partition: r.cfg.Partition, Checkpoint: r.at.Offset, Database: source.numbered}
}

// checkSource checks that neither the checkpoint nor the log is ahead of the source. A
// source that lags is given until it is where the log was at the first look.
// After a restore to an earlier time the log holds records of the lost time, until
// it is deleted; an owner that was restored, too, would take them for the next ones.
func (r *Reader) checkSource(ctx context.Context) error {
	// The log first: what it holds by now, the source has numbered by then.
	head, err := r.Head(ctx)
	if err != nil {
		return err
	}
	source, err := r.source(ctx)
	if err != nil {
		return err
	}
	if r.awaited == nil || r.awaited.LogID != head.LogID || r.awaited.Offset > head.Offset {
		r.awaited = &head
	}
	if r.awaited.Offset <= source.numbered {
		r.awaited = nil
		return nil
	}
	// Another database's log may be longer, too, and says nothing about this one.
	if err := r.cfg.Checkpoint.CheckLog(head.LogID); err != nil {
		return err
	}
	if source.readOnly {
		return r.lags(head.Offset, source)
	}
	return &unilog.LogAheadError{Partition: r.cfg.Partition, Log: head.Offset, Database: source.numbered}
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
