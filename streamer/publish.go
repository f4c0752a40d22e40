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
// database learns of it with the next batch, or when there is none.
func (p *publisher) publish(ctx context.Context, entries []unilog.Entry) error {
	l := p.lead
	for rest := entries; len(rest) > 0; {
		part := rest[:min(len(rest), p.cfg.appendRecords, fit(rest, appendBytes))]
		head, err := p.append(ctx, part)
		switch {
		case err == nil:
			l.move(head)
		case errors.Is(err, unilog.ErrAlreadyAppended):
			l.settle()
			if err := l.checkHead(ctx, head); err != nil {
				return err
			}
			p.log.Info("double send refused: the log holds these records already",
				"records", len(part), "first", part[0].Offset, "last", part[len(part)-1].Offset, "head", head)
			l.move(head)
		case errors.Is(err, unilog.ErrBehind):
			l.settle()
			if err := p.rebuild(ctx, head); err != nil {
				return err
			}
			return errRebuilding
		default:
			return err
		}
		rest = rest[min(len(rest), int(max(0, l.published-rest[0].Offset+1))):]
		if len(rest) > 0 {
			if err := loop.CallHook(ctx, p.cfg.Hooks.MidAppend, part); err != nil {
				return err
			}
		}
	}
	if err := loop.CallHook(ctx, p.cfg.Hooks.AfterAppend, entries); err != nil {
		return err
	}
	p.log.Debug("published", "records", len(entries), "first", entries[0].Offset, "last", l.published)
	return nil
}

func (p *publisher) append(ctx context.Context, part []unilog.Entry) (head int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	began := time.Now()
	err = p.lead.awake(ctx, "append to the log", func(ctx context.Context) (err error) {
		head, err = p.cfg.Log.Append(ctx, p.lead.term, part)
		return err
	})
	answer := err
	if logErr := new(unilog.LogError); errors.As(err, &logErr) {
		answer = logErr.Err
	}
	p.cfg.Observer.appended(part, time.Since(began), answer)
	return head, err
}

// appendBytes bounds one append, so that a log that serves one request at a
// time is never held for long.
const appendBytes = 1 << 20

// fit returns how many of the entries stay within a number of bytes, at least
// one.
func fit(entries []unilog.Entry, most int) int {
	size := 0
	for i := range entries {
		e := &entries[i]
		size += len(e.Data) + len(e.Key) + len(e.Action) + len(e.Object)
		for name, value := range e.Headers {
			size += len(name) + len(value)
		}
		if size > most && i > 0 {
			return i
		}
	}
	return len(entries)
}
