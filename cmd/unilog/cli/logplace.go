package cli

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// place is how far a command has read a partition. It is the reader's checkpoint, and is
// saved nowhere.
type place struct {
	partition int
	logID     string
	at        unilog.Cursor
	end       int64
	reader    *reader.Reader
}

// readAtOnce bounds what a partition's reader holds, in records.
const readAtOnce = 500

// place begins after an offset. Reading up to an end needs one.
func (t *tail) place(partition int, after, end int64) *place {
	p := &place{partition: partition, logID: t.now.id, at: unilog.Cursor{Offset: after}, end: end}
	p.reader = reader.New(reader.Config{
		Name: "log tail", Partition: partition, Checkpoint: p, Log: t.log, Archive: t.db, Schema: t.Schema,
		Limit: readAtOnce, Logger: slog.New(slog.DiscardHandler),
		GapFilled: func(entries []unilog.Entry) {
			note("partition %d: the log lacks offsets %d to %d: they come from the archive", partition, entries[0].Offset, entries[len(entries)-1].Offset)
		},
	})
	return p
}

// Load implements [reader.Checkpoint].
func (p *place) Load(context.Context) (unilog.Cursor, error) { return p.at, nil }

// CheckLog implements [reader.Checkpoint].
func (p *place) CheckLog(logID string) error {
	if logID != "" && logID != p.logID {
		return &unilog.ForeignLogError{Partition: p.partition, LogID: p.logID, Theirs: logID}
	}
	return nil
}

// CheckSource implements [reader.Checkpoint]. The log's id was read there.
func (p *place) CheckSource(string) error { return nil }

// next returns what follows, or nothing if nothing comes in the time. What nobody has any
// more it passes over, and says so.
func (p *place) next(ctx context.Context, wait time.Duration) ([]unilog.Entry, error) {
	err := p.reader.Load(ctx)
	if err != nil {
		return nil, err
	}
	entries, _, err := p.reader.Next(ctx, wait, readAtOnce)
	if gap := new(unilog.GapError); errors.As(err, &gap) {
		note("partition %d: offsets %d to %d can no longer be had: going on after them", p.partition, gap.From, gap.To)
		p.at = unilog.Cursor{Offset: gap.To}
		p.reader.Forget()
		return nil, nil
	}
	if err != nil {
		p.reader.Forget()
		return nil, err
	}
	if len(entries) > 0 {
		p.at = entries[len(entries)-1].Cursor()
		p.reader.Advance(p.at)
	}
	return entries, nil
}

// upToEnd returns what follows, and nothing at the end.
func (p *place) upToEnd(ctx context.Context) ([]unilog.Entry, error) {
	for p.at.Offset < p.end && ctx.Err() == nil {
		entries, err := p.next(ctx, 100*time.Millisecond)
		if err != nil {
			return nil, err
		}
		for len(entries) > 0 && entries[len(entries)-1].Offset > p.end {
			entries = entries[:len(entries)-1]
		}
		if len(entries) > 0 {
			return entries, nil
		}
	}
	return nil, ctx.Err()
}

// follow hands over what comes until ctx ends. What fails it tries again, unless a person
// must decide: then it ends all.
func (p *place) follow(ctx context.Context, came chan<- []unilog.Entry, end context.CancelCauseFunc) {
	said := ""
	pause := loop.Backoff{First: 250 * time.Millisecond, Most: 2 * time.Second}
	for ctx.Err() == nil {
		entries, err := p.next(ctx, reader.ReadWait)
		switch {
		case ctx.Err() != nil:
			return
		case isFatal(err):
			end(err)
			return
		case err != nil:
			if text := oneLine(err); text != said {
				note("partition %d: %s: trying again", p.partition, text)
				said = text
			}
			pause.Wait(ctx)
			continue
		case said != "":
			note("partition %d: going on", p.partition)
			said = ""
		}
		pause.Reset()
		if len(entries) == 0 {
			continue
		}
		select {
		case came <- entries:
		case <-ctx.Done():
		}
	}
}
