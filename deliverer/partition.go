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
	saved    time.Time
	several  bool // there are other partitions, which go on while this one cannot
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
	park(ctx context.Context, key CheckpointKey, from unilog.Cursor, e unilog.Entry, why error) error
}

// DeliveryError marks an error of the destination, not of the log or of the checkpoint
// store: a call of [Delivery] has failed with it.
type DeliveryError struct {
	// Offset is that of the first entry of the call.
	Offset int64
	Err    error
}

func (e *DeliveryError) Error() string { return fmt.Sprintf("offset %d: %v", e.Offset, e.Err) }

func (e *DeliveryError) Unwrap() error { return e.Err }

func newDelivering(d *Deliverer, partition int) *delivering {
	p := &delivering{
		cfg: &d.cfg, log: d.log.With("partition", partition),
		key:   CheckpointKey{Name: d.cfg.Name, Partition: partition},
		limit: d.cfg.BatchRecords,
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
	p.reader.Forget() // another instance may have moved the checkpoint
	p.failures = 0
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	outside := loop.Backoff{First: p.cfg.retryFirst, Most: p.cfg.retryMost}
	for ctx.Err() == nil {
		_, err := p.step(ctx, work, reader.ReadWait)
		var failed *DeliveryError
		var postponed *postponement
		switch {
		case err == nil:
			retry.Reset()
			outside.Reset()
		case errors.As(err, new(*unilog.GapError)) && p.several:
			p.log.Error("halted in this partition until this is mended: trying again from time to time", "every", reader.GapPause, "err", err)
			loop.Sleep(ctx, reader.GapPause)
		case isFinal(err):
			return err
		case ctx.Err() != nil:
		case errors.Is(err, errHung):
			p.log.Error("delivering stands still until the call returns", "err", err)
			p.hang.Wait(ctx)
		case errors.Is(err, ErrOvertaken):
			p.log.Info("another instance was faster: reading the checkpoint again")
			retry.Wait(ctx)
		case errors.As(err, &postponed):
			wait := min(max(0, postponed.wait), longestRetryAfter)
			p.log.Warn("delivery failed: trying again when asked to", "wait", wait, "err", err)
			loop.Sleep(ctx, wait+rand.N(wait/10+1))
		case errors.As(err, &failed):
			p.log.Warn("delivery failed: trying again", "err", err)
			outside.Wait(ctx)
		default:
			p.log.Warn("delivering failed: trying again", "err", err)
			retry.Wait(ctx)
		}
	}
	return nil
}

// isFinal says whether a person must decide what is to be done about an error.
func isFinal(err error) bool {
	for _, target := range []any{new(*unilog.RejectedError), new(*unilog.GapError), new(*unilog.CheckpointAheadError), new(*ForeignCheckpointError), new(*unilog.ForeignLogError)} {
		if errors.As(err, target) {
			return true
		}
	}
	return false
}

// step reads a batch, if none is pending, and delivers it. It returns how many entries
// that were. ctx bounds the reading, and work the delivering.
func (p *delivering) step(ctx, work context.Context, wait time.Duration) (n int, err error) {
	defer func() {
		trouble := err
		if err != nil {
			p.reader.Forget() // whether the checkpoint has moved is not known
			if errors.Is(err, ErrOvertaken) {
				trouble = nil // another instance does the work
			} else if ctx.Err() == nil {
				p.cfg.Observer.failed(err)
			}
		}
		p.readiness.Note(ctx, trouble)
	}()
	if err := p.hang.Err(); err != nil {
		return 0, err
	}
	if err := p.reader.Load(ctx); err != nil {
		return 0, err
	}
	if _, beats := p.cfg.Checkpoints.(beater); !beats && time.Since(p.saved) >= loop.Heartbeat {
		if err := p.save(ctx, p.reader.At()); err != nil {
			return 0, err
		}
	}
	entries, barrier, err := p.reader.Next(ctx, wait, p.limit)
	if err != nil || len(entries) == 0 {
		return 0, err
	}
	if barrier != nil {
		return p.passBarrier(ctx, work, barrier, entries[0], wait)
	}
	return p.deliver(work, entries)
}

// deliver delivers entries, which follow the checkpoint, and saves that it did.
func (p *delivering) deliver(ctx context.Context, entries []unilog.Entry) (int, error) {
	began := time.Now()
	err := p.call(ctx, entries)
	var rejected *refusal
	switch {
	case err == nil:
		last := entries[len(entries)-1]
		if err := p.save(ctx, last.Cursor()); err != nil {
			return 0, err
		}
		p.limit, p.failures = min(2*p.limit, p.cfg.BatchRecords), 0
		p.cfg.Observer.committed(entries, time.Since(began))
		return len(entries), nil
	case ctx.Err() != nil: // this process ends
		return 0, err
	case len(entries) > 1:
		p.limit = len(entries) / 2
		if errors.As(err, &rejected) { // one of them is: those before it are still to be delivered
			return p.deliver(ctx, entries[:p.limit])
		}
	case errors.As(err, &rejected):
		return p.reject(ctx, entries[0], rejected.err)
	default:
		if p.failing != entries[0].Offset {
			p.failing, p.failures = entries[0].Offset, 0
		}
		p.failures++
		if p.cfg.Attempts > 0 && p.failures >= p.cfg.Attempts {
			return p.reject(ctx, entries[0], err)
		}
	}
	return 0, &DeliveryError{Offset: entries[0].Offset, Err: err}
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
	halt := &unilog.RejectedError{Consumer: p.key.Name, Partition: p.key.Partition, Offset: e.Offset, Err: why}
	if !p.cfg.ParkRejected {
		p.failures = 0
		return 0, halt
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	began := time.Now()
	err := p.cfg.Checkpoints.(parker).park(ctx, p.key, p.reader.At(), e, why)
	if run := new(reader.RunError); errors.As(err, &run) {
		p.failures, halt.Err = 0, run
		return 0, halt
	}
	if err != nil {
		return 0, err
	}
	p.advance(e.Cursor())
	p.failures = 0
	p.cfg.Observer.committed([]unilog.Entry{e}, time.Since(began))
	p.cfg.Observer.parked(e, why)
	p.log.Error("record rejected: parked in dead_letters", "offset", e.Offset, "err", why)
	return 1, nil
}

func (p *delivering) save(ctx context.Context, to unilog.Cursor) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := p.cfg.Checkpoints.Save(ctx, p.key, p.reader.At(), to); err != nil {
		return err
	}
	p.advance(to)
	return nil
}

func (p *delivering) advance(to unilog.Cursor) {
	p.reader.Advance(to)
	p.saved = time.Now()
}
