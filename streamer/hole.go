package streamer

import (
	"context"
	"errors"
	"fmt"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

// archived returns the entries that follow an offset, from the archive. Where it has lost
// them, by hand or by damage, the log begins after them, if it is only being rebuilt.
func (l *leader) archived(ctx context.Context, published, upTo int64) ([]unilog.Entry, error) {
	entries, err := archive.Read(ctx, l.cfg.DB, l.cfg.Schema, l.partition, published, upTo, l.limit)
	damaged := new(archive.DamagedError)
	switch isDamaged := errors.As(err, &damaged); {
	case isDamaged:
		return nil, l.passHole(ctx, published+1, damaged.Last)
	case err != nil:
		return nil, err
	case len(entries) > 0 && entries[0].Offset == published+1:
		return entries, nil
	}
	last, _, err := archive.Lacks(ctx, l.cfg.DB, l.cfg.Schema, l.partition, published+1, upTo)
	if err != nil || last <= published { // it was put back meanwhile
		return nil, err
	}
	return nil, l.passHole(ctx, published+1, last)
}

// passHole lets the log begin after offsets that the archive has lost. Where they were
// published before, those who have applied them go on so, and others read the archive up
// to there, and halt. Where they were not, nobody has them, and a person decides.
func (l *leader) passHole(ctx context.Context, from, to int64) error {
	if l.recorded.Load() < to {
		return fmt.Errorf("unilog: the archive of partition %d has lost offsets %d to %d, or they are damaged there, before they were published: "+
			"nothing that follows them is published until that row of its table batches is back, as it was or with placeholders", l.partition, from, to)
	}
	l.log.Error("the archive has lost records, or they are damaged there: the log begins after them, and who has not applied them halts",
		"first", from, "last", to)
	err := l.call(ctx, "reset the log", func(ctx context.Context) error { return l.cfg.Log.Reset(ctx, l.term, to) })
	if err != nil {
		return err
	}
	l.published.Store(to)
	return errRebuilding
}
