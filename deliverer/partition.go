package deliverer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// delivering is a deliverer at work on one partition. It is not safe for concurrent
// use, except for its readiness.
type delivering struct {
	cfg       *Config
	log       *slog.Logger
	readiness loop.Readiness
	// key says whose checkpoint it is. Its LogID is that of the log's head when the
	// checkpoint was loaded.
	key    CheckpointKey
	reader *reader.Reader

	// limit is how many entries the next call gets: fewer after a failure.
	limit int
	hang  loop.Hang // a call of Deliver
	// failures counts the failed deliveries of the entry at offset failing alone.
	failures int
	failing  int64
	several  bool // there are other partitions, which go on while this one cannot

	watch *watch
	// mayBeTroubled says that the checkpoint may have a note that the partition has halted.
	mayBeTroubled bool
	// mayBeRequeued says that there may be dead letters to be delivered again, from a time
	// on if the destination was away.
	mayBeRequeued bool
	requeuedFrom  time.Time

	progress
}

const (
	// deliverRead is how many entries a read asks for at least, however few are
	// delivered at a time.
	deliverRead = 1000
	// longestRetryAfter bounds how long a destination can make a deliverer wait.
	longestRetryAfter = time.Hour
)

// parker is implemented by Checkpoints that have a table for rejected entries.
type parker interface {
	park(ctx context.Context, key CheckpointKey, from unilog.Cursor, e unilog.Entry, since int64, why error) error
}

func newDelivering(d *Deliverer, partition int) *delivering {
	p := &delivering{
		cfg: &d.cfg, log: d.log.With("partition", partition),
		key:   CheckpointKey{Name: d.cfg.Name, Partition: partition},
		limit: d.cfg.BatchRecords, watch: &d.watch, mayBeRequeued: true, mayBeTroubled: true,
	}
	p.reader = reader.New(reader.Config{
		Name: d.cfg.Name, Partition: partition, Checkpoint: p, Log: d.cfg.Log, Archive: d.cfg.Archive, Schema: d.cfg.Schema,
		Limit: max(deliverRead, d.cfg.BatchRecords), Logger: p.log, GapFilled: d.cfg.Observer.gapFilled,
	})
	return p
}

// run delivers until ctx ends, and then finishes the call in hand, unless work ends
// first. It returns the errors of [Deliverer.Run].
func (p *delivering) run(ctx, work context.Context) error {
	p.failures = 0
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	outside := loop.Backoff{First: p.cfg.retryFirst, Most: p.cfg.retryMost}
	var turn context.Context
	said := ""
	defer p.farewell(work)
	for ctx.Err() == nil {
		if now := p.watch.now(); now != turn {
			if err := p.flush(work); err != nil {
				p.log.Debug("some records come again: the checkpoint could not be saved", "err", err)
			}
			p.beginAnew() // another instance, or a person, may have moved the checkpoint
			turn = now
		}
		_, err := p.step(turn, work, reader.ReadWait)
		var failed *DeliveryError
		var postponed *postponement
		var paused *unilog.PausedError
		switch {
		case err == nil:
			retry.Reset()
			outside.Reset()
			said = ""
		case errors.As(err, &paused):
			p.waitPaused(turn, paused)
		case isFinal(err):
			pause := p.haltedPause(err)
			if pause == 0 {
				return err
			}
			if text := err.Error(); text != said {
				p.log.Error("halted until this is mended: trying again from time to time", "every", pause, "err", err)
				said = text
			}
			loop.Sleep(turn, pause)
		case turn.Err() != nil:
		case errors.Is(err, errHung):
			p.log.Error("delivering stands still until the call returns", "err", err)
			p.hang.Wait(ctx)
		case errors.Is(err, ErrOvertaken):
			p.log.Info("somebody else has moved the checkpoint: reading it again")
			retry.Wait(turn)
		case errors.As(err, &postponed):
			wait := min(max(0, postponed.wait), longestRetryAfter)
			p.log.Warn("delivery failed: trying again when asked to", "wait", wait, "err", err)
			loop.Sleep(turn, wait+rand.N(wait/10+1))
		case errors.As(err, &failed):
			p.log.Warn("delivery failed: trying again", "err", err)
			outside.Wait(turn)
		default:
			p.log.Warn("delivering failed: trying again", "err", err)
			retry.Wait(turn)
		}
	}
	return nil
}

// haltedPause is how long the partition waits until it tries again what it has halted
// for, or 0 if it does not.
func (p *delivering) haltedPause(err error) time.Duration {
	if p.cfg.RetryHalted == 0 && p.several && errors.As(err, new(*unilog.GapError)) {
		return reader.GapPause
	}
	return p.cfg.RetryHalted
}

// isFinal says whether a person must decide what is to be done about an error.
func isFinal(err error) bool {
	for _, target := range []any{new(*unilog.RejectedError), new(*unilog.GapError), new(*unilog.CheckpointAheadError), new(*ForeignCheckpointError), new(*unilog.ForeignLogError), new(*unilog.FormatError)} {
		if errors.As(err, target) {
			return true
		}
	}
	return false
}

// step reads a batch, if none is pending, and delivers it. It returns how many entries
// it delivered or passed over. ctx bounds the reading, and work the delivering.
func (p *delivering) step(ctx, work context.Context, wait time.Duration) (n int, err error) {
	defer func() {
		trouble := err
		if err != nil {
			p.reader.Forget() // whether the checkpoint has moved is not known
			if errors.Is(err, ErrOvertaken) || errors.As(err, new(*unilog.PausedError)) {
				trouble = nil // another instance does the work, or somebody wants it so
			} else if ctx.Err() == nil {
				p.cfg.Observer.failed(err)
			}
		}
		p.noteHalt(work, err)
		p.readiness.Note(ctx, trouble)
	}()
	if err := p.hang.Err(); err != nil {
		return 0, err
	}
	if err := p.reader.Load(ctx); err != nil {
		return 0, err
	}
	again, err := p.deliverRequeued(ctx, work)
	if err != nil {
		return again, err
	}
	n, err = p.next(ctx, work, wait)
	return again + n, err
}

// noteHalt notes with the checkpoint that the partition has halted, or that it no longer
// has, after a step that has ended with err. A checkpoint of another log's is let alone.
func (p *delivering) noteHalt(ctx context.Context, err error) {
	c, ok := p.cfg.Checkpoints.(noter)
	halts := err != nil && isFinal(err) && !errors.As(err, new(*ForeignCheckpointError))
	if !ok || !halts && (err != nil || !p.mayBeTroubled) {
		return
	}
	noteErr := c.noteHalt(ctx, p.key, err)
	p.mayBeTroubled = halts || noteErr != nil
	if noteErr != nil {
		p.log.Debug("could not note in the database whether the deliverer has halted", "err", noteErr)
	}
}

// next does so with what follows the checkpoint.
func (p *delivering) next(ctx, work context.Context, wait time.Duration) (n int, err error) {
	if err := p.keepSaved(work); err != nil {
		return 0, err
	}
	entries, barrier, err := p.reader.Next(ctx, wait, p.most())
	if err != nil {
		return 0, errors.Join(err, p.flush(work))
	}
	if len(entries) == 0 {
		return 0, nil
	}
	if barrier != nil {
		if err := p.flush(work); err != nil {
			return 0, err
		}
		return p.passBarrier(ctx, work, barrier, entries[0], wait)
	}
	wanted, to := p.choose(entries)
	if len(wanted) == 0 {
		p.pass(to, 0)
		return len(entries), nil
	}
	return p.deliver(work, wanted, to)
}

// deliver delivers entries, which follow what is delivered, and notes that everything is
// up to a place.
func (p *delivering) deliver(ctx context.Context, entries []unilog.Entry, to unilog.Cursor) (int, error) {
	began := time.Now()
	err := p.call(ctx, entries)
	first, last := entries[0], entries[len(entries)-1]
	var rejected *refusal
	var halt *halting
	switch {
	case err == nil:
		p.pass(to, len(entries))
		if p.unsaved >= p.cfg.SaveEvery || p.reader.Pending() == 0 {
			if err := p.flush(ctx); err != nil {
				return 0, err
			}
		}
		p.limit, p.failures, p.arrived = min(2*p.limit, p.cfg.BatchRecords), 0, last.Offset
		p.cfg.Observer.committed(entries, time.Since(began))
		return len(entries), nil
	case ctx.Err() != nil: // this process ends
		p.farewell(ctx)
		return 0, err
	case errors.As(err, &halt):
		return 0, errors.Join(p.flush(ctx), p.halted(first, halt.err))
	case len(entries) > 1:
		p.limit = len(entries) / 2
		if errors.As(err, &rejected) { // one of them is: those before it are still to be delivered
			return p.deliver(ctx, entries[:p.limit], entries[p.limit-1].Cursor())
		}
	case errors.As(err, &rejected):
		return p.reject(ctx, first, rejected.err)
	case errors.As(err, new(*unavailability)):
	default:
		if p.failing != first.Offset {
			p.failing, p.failures = first.Offset, 0
		}
		p.failures++
		if p.cfg.Attempts > 0 && p.failures >= p.cfg.Attempts {
			return p.reject(ctx, first, err)
		}
	}
	if err := p.flush(ctx); err != nil {
		return 0, err
	}
	return 0, &DeliveryError{Offset: first.Offset, Err: err}
}

// errHung says that a call of [Delivery] has not returned although its time was over.
var errHung = errors.New("unilog: the delivery does not return, although its context has ended")

func (p *delivering) call(ctx context.Context, entries []unilog.Entry) error {
	bounded, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	logID := p.key.LogID
	return p.hang.Call(ctx, p.cfg.Timeout+p.cfg.grace, errHung, func() (err error) {
		defer func() {
			if v := recover(); v != nil {
				p.log.Error("delivery panicked", "first", entries[0].Offset, "panic", v, "stack", string(debug.Stack()))
				err = fmt.Errorf("panic: %v", v)
			}
		}()
		return p.cfg.Deliver(bounded, logID, entries)
	})
}

// reject parks an entry, or returns the error to halt with.
func (p *delivering) reject(ctx context.Context, e unilog.Entry, why error) (int, error) {
	halt := p.halted(e, why)
	if !p.cfg.ParkRejected {
		p.failures = 0
		return 0, errors.Join(p.flush(ctx), halt)
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	began := time.Now()
	err := p.cfg.Checkpoints.(parker).park(ctx, p.key, p.reader.Saved(), e, p.since(e), why)
	if run := new(reader.RunError); errors.As(err, &run) {
		p.failures, halt.Err = 0, run
		return 0, errors.Join(p.flush(ctx), halt)
	}
	if err != nil {
		return 0, err
	}
	p.savedAt(e.Cursor(), 1)
	p.failures = 0
	p.cfg.Observer.committed([]unilog.Entry{e}, time.Since(began))
	p.cfg.Observer.parked(e, why)
	p.log.Error("record rejected: parked in dead_letters", "offset", e.Offset, "err", why)
	return 1, nil
}

func (p *delivering) halted(e unilog.Entry, why error) *unilog.RejectedError {
	return &unilog.RejectedError{Consumer: p.key.Name, Partition: p.key.Partition, Offset: e.Offset, Err: why}
}
