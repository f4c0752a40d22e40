package deliverer

import (
	"context"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// progress is how far a partition has come beside its reader, which may be ahead of the
// checkpoint for a while.
type progress struct {
	saved       time.Time // when the checkpoint was saved
	passedSince time.Time // since when the reader is ahead of it; zero if it is not
	unsaved     int       // how many entries were delivered, or were barriers, since
	// arrived is the offset of the last entry that was delivered, or at first the
	// checkpoint: what precedes it was not all rejected.
	arrived int64
}

// most is how many entries to choose from.
func (p *delivering) most() int {
	if len(p.cfg.Only) == 0 {
		return p.limit
	}
	return max(deliverRead, p.limit)
}

// asks says whether an entry is to be delivered. What a later version of the log has made
// for itself must not be passed over.
func (p *delivering) asks(e *unilog.Entry) bool {
	return e.Object == unilog.ReservedObject || unilog.IncludedIn(p.cfg.Only, &e.Record)
}

// choose returns the next entries to deliver, and the place up to which nothing else is
// to be delivered. Without any, that is after all of those given.
func (p *delivering) choose(entries []unilog.Entry) (wanted []unilog.Entry, to unilog.Cursor) {
	if len(p.cfg.Only) == 0 {
		return entries, entries[len(entries)-1].Cursor()
	}
	for i := range entries {
		if p.asks(&entries[i]) {
			if len(wanted) == p.limit {
				break
			}
			wanted = append(wanted, entries[i])
		}
		to = entries[i].Cursor()
	}
	return wanted, to
}

// loaded notes the checkpoint as it was read.
func (p *delivering) loaded(at unilog.Cursor) {
	if p.saved.IsZero() {
		p.arrived, p.saved = at.Offset, time.Now()
	}
	p.arrived = min(p.arrived, at.Offset) // somebody may have moved it back
	p.passedSince, p.unsaved = time.Time{}, 0
}

// pass notes that everything up to a place is done with, so many entries, or passed over.
func (p *delivering) pass(to unilog.Cursor, done int) {
	p.reader.Pass(to)
	p.unsaved += done
	if p.passedSince.IsZero() {
		p.passedSince = time.Now()
	}
}

// keepSaved saves the checkpoint if it is time to.
func (p *delivering) keepSaved(ctx context.Context) error {
	if !p.passedSince.IsZero() && time.Since(p.passedSince) >= p.cfg.saveWithin {
		return p.flush(ctx)
	}
	if _, beats := p.cfg.Checkpoints.(beater); !beats && time.Since(p.saved) >= loop.Heartbeat {
		return p.save(ctx, p.reader.At())
	}
	return nil
}

// flush saves the checkpoint if something was delivered or passed over since.
func (p *delivering) flush(ctx context.Context) error {
	if !p.reader.Unsaved() {
		return nil
	}
	return p.save(ctx, p.reader.At())
}

// farewell is the last flush of a run, also when what it called has used up its time.
func (p *delivering) farewell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loop.FarewellTimeout)
	defer cancel()
	if err := p.flush(ctx); err != nil {
		p.log.Info("could not save the last checkpoint: some records come again", "err", err)
	}
}

func (p *delivering) save(ctx context.Context, to unilog.Cursor) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := p.cfg.Checkpoints.Save(ctx, p.key, p.reader.Saved(), to); err != nil {
		return err
	}
	p.savedAt(to, 0)
	return nil
}

// savedAt notes that the checkpoint is saved at an entry which the reader has returned,
// with so many of those after the last pass that were not passed over.
func (p *delivering) savedAt(to unilog.Cursor, more int) {
	p.cfg.Observer.passedOver(to.Offset - p.reader.Saved().Offset - int64(p.unsaved+more))
	p.reader.Advance(to)
	p.saved, p.passedSince, p.unsaved = time.Now(), time.Time{}, 0
}

// since is for [reader.CheckRun]: where nobody asks for some of the entries, those that were
// rejected in a row are not side by side. It is 0 if everything is asked for.
func (p *delivering) since(e unilog.Entry) int64 {
	if len(p.cfg.Only) == 0 {
		return 0
	}
	return p.arrived + 1
}
