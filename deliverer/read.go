package deliverer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// Index: log_partitions_pkey.
const sqlSource = `SELECT log_id::text, next_offset - 1, published_offset FROM log_partitions WHERE partition = $1`

// errUnclaimed is why a log that nobody has written to since it was made, or
// lost, is not read: whose it is is not known.
var errUnclaimed = errors.New("no streamer has claimed the log yet: start one")

// load reads the checkpoint if it is not known, and drops what was read before it
// moved.
func (p *delivering) load(ctx context.Context) error {
	if p.at != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	// The log first: what it holds by now the source has numbered by then.
	head, err := p.head(ctx)
	if err != nil {
		return err
	}
	p.key.LogID = head.LogID
	at, err := p.cfg.Checkpoints.Load(ctx, p.key)
	if err != nil {
		return err
	}
	if len(p.pending) > 0 && p.pending[0].Offset != at.Offset+1 {
		p.pending, p.failures = nil, 0
	}
	p.at = &at
	if p.saved.IsZero() {
		p.saved = time.Now()
	}
	if p.cfg.Archive == nil {
		return nil
	}
	numbered, _, err := p.source(ctx)
	if err == nil && head.Offset > numbered {
		err = &unilog.LogAheadError{Partition: p.key.Partition, Log: head.Offset, Database: numbered}
	}
	return err
}

func (p *delivering) head(ctx context.Context) (unilog.Head, error) {
	head, err := p.cfg.Log.Head(ctx, p.key.Partition)
	if err == nil && head.LogID == "" {
		err = errUnclaimed
	}
	if err != nil {
		return unilog.Head{}, &unilog.LogError{Call: "read the log's head", Err: err}
	}
	return head, nil
}

// source returns what the source has numbered and published, and checks that it
// is the log's, and that this deliverer is not ahead of it.
func (p *delivering) source(ctx context.Context) (numbered, published int64, err error) {
	var logID string
	if err := p.cfg.Archive.QueryRow(ctx, sqlSource, p.key.Partition).Scan(&logID, &numbered, &published); err != nil {
		return 0, 0, fmt.Errorf("read the source's head: %w", err)
	}
	if logID != p.key.LogID {
		return 0, 0, &unilog.ForeignLogError{Partition: p.key.Partition, LogID: logID, Theirs: p.key.LogID}
	}
	if p.at.Offset > numbered {
		return 0, 0, &unilog.CheckpointAheadError{Consumer: p.key.Name, Partition: p.key.Partition, Checkpoint: p.at.Offset, Database: numbered}
	}
	return numbered, published, nil
}

// read returns the entries that directly follow the checkpoint.
func (p *delivering) read(ctx context.Context, wait time.Duration) ([]unilog.Entry, error) {
	bounded, cancel := context.WithTimeout(ctx, wait+loop.CallTimeout)
	defer cancel()
	entries, err := p.cfg.Log.Read(bounded, p.key.Partition, *p.at, p.readLimit, wait)
	if err != nil {
		p.readLimit = max(1, p.readLimit/2)
		return nil, &unilog.LogError{Call: "read the log", Err: err}
	}
	p.readLimit = min(2*p.readLimit, max(deliverRead, p.cfg.BatchRecords))
	for len(entries) > 0 && entries[0].Offset <= p.at.Offset {
		entries = entries[1:]
	}
	ctx, cancel = context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if len(entries) > 0 {
		// What is delivered cannot be taken back, so nothing that somebody else has
		// put in the place of the log since.
		head, err := p.head(ctx)
		if err != nil {
			return nil, err
		}
		if head.LogID != p.key.LogID {
			return nil, &ForeignCheckpointError{Key: CheckpointKey{p.key.Name, head.LogID, p.key.Partition}, Theirs: p.key.LogID}
		}
	}
	return p.fillGap(ctx, entries, wait > 0)
}

// fillGap is as a consumer's: what it returns directly follows the checkpoint.
// With quiet, the log had time to give entries and gave none.
func (p *delivering) fillGap(ctx context.Context, entries []unilog.Entry, quiet bool) ([]unilog.Entry, error) {
	next := p.at.Offset + 1
	if len(entries) > 0 && entries[0].Offset == next {
		return entries[:reader.Consecutive(entries)], nil
	}
	if len(entries) == 0 && (!quiet || p.cfg.Archive == nil) {
		return nil, nil
	}
	var upTo int64
	if len(entries) > 0 {
		upTo = entries[0].Offset - 1
	} else {
		var err error
		if _, upTo, err = p.source(ctx); err != nil || upTo < next {
			return nil, err
		}
	}
	gap := &unilog.GapError{Consumer: p.key.Name, Partition: p.key.Partition, From: next, To: upTo, Archive: p.cfg.Archive != nil}
	found, err := reader.Fill(ctx, p.cfg.Archive, gap, p.readLimit)
	if err != nil || found == nil {
		if err == nil {
			err = p.confirm(ctx, gap)
		}
		return nil, err
	}
	p.log.Info("gap filled from the archive", "records", len(found), "first", next, "last", found[len(found)-1].Offset)
	p.cfg.Observer.gapFilled(found)
	return found, nil
}

// confirm returns the gap, unless another instance has passed it meanwhile.
func (p *delivering) confirm(ctx context.Context, gap *unilog.GapError) error {
	before := p.at.Offset
	p.at = nil
	if err := p.load(ctx); err != nil {
		return err
	}
	if p.at.Offset == before {
		return gap
	}
	return nil
}
