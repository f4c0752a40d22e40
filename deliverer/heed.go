package deliverer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// heedPause is the time between looks whether a person has intervened.
const heedPause = time.Second

// steered is implemented by Checkpoints that a person can move, and that keep dead letters.
type steered interface {
	// last returns the number of the last intervention.
	last(ctx context.Context, name string) (int64, error)
	requeued(ctx context.Context, key CheckpointKey) ([]unilog.Entry, error)
	// unpark removes a dead letter that has been delivered.
	unpark(ctx context.Context, key CheckpointKey, offset int64) error
	rejectAgain(ctx context.Context, key CheckpointKey, offset int64, why error) error
}

const (
	// Index: interventions_of_consumer, the last entry.
	sqlLastIntervention = `SELECT coalesce(max(id), 0) FROM unilog.interventions WHERE consumer = $1`

	// Index: dead_letters_pkey.
	sqlUnpark = `DELETE FROM unilog.dead_letters WHERE consumer = $1 AND partition = $2 AND "offset" = $3 AND requeued_at IS NOT NULL`
)

func (c postgresCheckpoints) last(ctx context.Context, name string) (last int64, err error) {
	err = c.db.QueryRow(ctx, c.schema.SQL(sqlLastIntervention), name).Scan(&last)
	return last, err
}

func (c postgresCheckpoints) requeued(ctx context.Context, key CheckpointKey) ([]unilog.Entry, error) {
	return reader.Requeued(ctx, c.db, c.schema, key.Name, key.Partition)
}

func (c postgresCheckpoints) unpark(ctx context.Context, key CheckpointKey, offset int64) error {
	if _, err := c.db.Exec(ctx, c.schema.SQL(sqlUnpark), key.Name, key.Partition, offset); err != nil {
		return fmt.Errorf("remove a dead letter: %w", postgres.Explain(err))
	}
	return nil
}

func (c postgresCheckpoints) rejectAgain(ctx context.Context, key CheckpointKey, offset int64, why error) error {
	return reader.RejectAgain(ctx, c.db, c.schema, key.Name, key.Partition, offset, why)
}

// watch tells partitions that a person has intervened: their turn ends, and with it what
// they wait for. It is safe for concurrent use.
type watch struct {
	mu   sync.Mutex
	last int64
	turn context.Context
	end  context.CancelFunc
	// saysPaused is true when a partition has logged that the deliverer is paused.
	saysPaused bool
}

// begin begins a turn, and ends the one before.
func (w *watch) begin(ctx context.Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end != nil {
		w.end()
	}
	w.turn, w.end = context.WithCancel(ctx)
	w.saysPaused = false
}

func (w *watch) now() context.Context {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.turn
}

// says returns true once in a turn.
func (w *watch) says() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	first := !w.saysPaused
	w.saysPaused = true
	return first
}

// changed says whether somebody has intervened since the last look.
func (d *Deliverer) changed(ctx context.Context) (bool, error) {
	c, ok := d.cfg.Checkpoints.(steered)
	if !ok {
		return false, nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	last, err := c.last(ctx, d.cfg.Name)
	if err != nil {
		return false, err
	}
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	before := d.watch.last
	d.watch.last = last
	return last != before, nil
}

// keepWatching begins a new turn whenever somebody has intervened.
func (d *Deliverer) keepWatching(ctx context.Context) {
	for ; ctx.Err() == nil; loop.Sleep(ctx, heedPause) {
		changed, err := d.changed(ctx)
		if err != nil && ctx.Err() == nil {
			d.log.Debug("could not look for interventions", "err", err)
		}
		if changed {
			d.log.Info("reading the checkpoints again, for what somebody has done to this deliverer")
			d.watch.begin(ctx)
		}
	}
}

// heed is for who calls RunOnce.
func (d *Deliverer) heed(ctx context.Context) error {
	if time.Since(d.looked) < heedPause {
		return nil
	}
	changed, err := d.changed(ctx)
	if err != nil {
		return err
	}
	d.looked = time.Now()
	for _, p := range d.partitions {
		if changed {
			p.beginAnew()
		}
	}
	return nil
}

// beginAnew forgets where the checkpoint was.
func (p *delivering) beginAnew() {
	p.reader.Forget()
	p.mayBeRequeued, p.requeuedFrom = true, time.Time{}
}

// waitPaused waits for the end of a turn: to resume is an intervention, too.
func (p *delivering) waitPaused(turn context.Context, paused *unilog.PausedError) {
	if p.watch.says() {
		p.log.Warn("paused: delivering nothing until it is resumed", "since", paused.Since, "by", paused.By)
	}
	<-turn.Done()
}

// deliverRequeued delivers the dead letters of the partition that a person has requeued. One
// that fails stays: it does not hold up what follows, and nor does a destination that is
// away. The end of the turn leaves the rest to the next one, since the deliverer may be
// paused by then, or the rest be discarded.
func (p *delivering) deliverRequeued(turn, ctx context.Context) (n int, err error) {
	c, ok := p.cfg.Checkpoints.(steered)
	if !ok || !p.mayBeRequeued || time.Now().Before(p.requeuedFrom) {
		return 0, nil
	}
	bounded, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	letters, err := c.requeued(bounded, p.key)
	cancel()
	if err != nil {
		return 0, err
	}
	for _, e := range letters {
		if err := turn.Err(); err != nil {
			return n, err
		}
		delivered, err := p.deliverParked(ctx, c, e)
		if blameless(err) {
			p.log.Warn("delivery of a record that was parked failed: trying again", "offset", e.Offset, "err", err)
			p.requeuedFrom = time.Now().Add(p.cfg.retryMost)
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if delivered {
			n++
		}
	}
	p.mayBeRequeued = len(letters) == reader.RequeuedMost // each of them is no longer one
	return n, nil
}

// blameless says that an error is of the destination, whatever it is given.
func blameless(err error) bool {
	return errors.As(err, new(*unavailability)) || errors.As(err, new(*halting))
}

func (p *delivering) deliverParked(ctx context.Context, c steered, e unilog.Entry) (delivered bool, err error) {
	err = reader.ErrNotAsked
	if p.asks(&e) {
		err = p.call(ctx, []unilog.Entry{e})
	}
	if errors.Is(err, errHung) || blameless(err) || ctx.Err() != nil {
		return false, err
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), loop.CallTimeout)
	defer cancel()
	if err == nil {
		p.log.Info("delivered a record that was parked", "offset", e.Offset)
		return true, c.unpark(bounded, p.key, e.Offset)
	}
	p.log.Error("record rejected again: it stays in dead_letters", "offset", e.Offset, "err", err)
	return false, c.rejectAgain(bounded, p.key, e.Offset, err)
}
