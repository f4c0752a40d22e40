package streamer

import (
	"context"
	"errors"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// errRebuilding says that the log lacks entries before a batch, which come next.
var errRebuilding = errors.New("the log is being rebuilt")

// publish appends a batch to the log, in parts. The log decides what it takes:
// what it holds already it refuses, and what it has lost it is given again. The
// database learns of it later.
func (l *leader) publish(ctx context.Context, entries []unilog.Entry) error {
	for rest := entries; len(rest) > 0; {
		part := rest[:min(len(rest), l.cfg.appendRecords, fit(rest, appendBytes))]
		head, err := l.append(ctx, part)
		switch {
		case err == nil:
		case errors.Is(err, unilog.ErrAlreadyAppended):
			if err := l.checkHead(ctx, head); err != nil {
				return err
			}
			l.log.Info("double send refused: the log holds these records already",
				"records", len(part), "first", part[0].Offset, "last", part[len(part)-1].Offset, "head", head)
		case errors.Is(err, unilog.ErrBehind):
			if err := l.rebuild(ctx, head); err != nil {
				return err
			}
			return errRebuilding
		default:
			return err
		}
		l.published.Store(head)
		rest = rest[min(len(rest), int(max(0, head-rest[0].Offset+1))):]
		if len(rest) > 0 {
			if err := loop.CallHook(ctx, l.cfg.Hooks.MidAppend, part); err != nil {
				return err
			}
		}
	}
	if err := loop.CallHook(ctx, l.cfg.Hooks.AfterAppend, entries); err != nil {
		return err
	}
	l.log.Debug("published", "records", len(entries), "first", entries[0].Offset, "last", l.published.Load())
	return nil
}

// append appends a part of a batch. If the log has no room, it is trimmed to its
// minimum first.
func (l *leader) append(ctx context.Context, part []unilog.Entry) (head int64, err error) {
	for keep, last := l.cfg.KeepRecords, false; ; keep /= 4 {
		began := time.Now()
		err = l.call(ctx, "append to the log", func(ctx context.Context) (err error) {
			head, err = l.cfg.Log.Append(ctx, l.term, part)
			return err
		})
		answer := err
		if logErr := new(unilog.LogError); errors.As(err, &logErr) {
			answer = logErr.Err
		}
		l.cfg.Observer.appended(part, time.Since(began), answer)
		if !errors.Is(err, unilog.ErrLogFull) || last {
			return head, err
		}
		if err := l.shrink(ctx, keep); err != nil {
			return head, err
		}
		last = keep == 0
	}
}

// shrink keeps only the last records of the log. The archive has the others for those
// who need them.
func (l *leader) shrink(ctx context.Context, keep int64) error {
	upTo := l.published.Load() - keep
	if upTo < 1 {
		return nil
	}
	l.log.Warn("the log is out of memory: keeping only its last records there", "records", keep)
	return l.call(ctx, "trim the log", func(ctx context.Context) error { return l.cfg.Log.Trim(ctx, l.partition, upTo) })
}

// rebuild brings back a log that has lost records: the next batches come from
// the archive, after the log's head. What no reader needs any more is left out,
// and then the log begins later, without a hole.
func (l *leader) rebuild(ctx context.Context, head int64) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	l.lane.close()
	if err := l.ask(ctx); err != nil {
		return err
	}
	needs, err := l.cfg.rule().Look(ctx, l.cfg.DB)
	if err != nil {
		return err
	}
	published := l.published.Load()
	need := needs.Partitions[l.partition]
	need.Published = published
	upTo, err := l.cfg.rule().Logged(ctx, l.cfg.DB, l.partition, need)
	if err != nil {
		return err
	}
	if head < upTo {
		err := l.call(ctx, "reset the log", func(ctx context.Context) error { return l.cfg.Log.Reset(ctx, l.term, upTo) })
		if err != nil {
			return err
		}
		head = upTo
	}
	l.log.Warn("the log has lost records: publishing them again from the archive",
		"first", head+1, "last", published)
	l.published.Store(head)
	l.cfg.Observer.logLost(l.partition, head)
	return nil
}

// appendBytes bounds one append, so that a log that serves one request at a
// time is never held for long.
const appendBytes = 1 << 20

// fit returns how many of the entries stay within a number of bytes, at least
// one.
func fit(entries []unilog.Entry, most int) int {
	size := 0
	for i := range entries {
		if size += entries[i].Size(); size > most && i > 0 {
			return i
		}
	}
	return len(entries)
}
