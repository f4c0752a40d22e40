package consumer

import (
	"context"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// heedPause is the time between looks for interventions, where nothing else looks.
const heedPause = time.Second

// Index: interventions_of_consumer, the last entry.
const sqlLastIntervention = `SELECT coalesce(max(id), 0) AS last FROM unilog.interventions WHERE consumer = $1`

// beginAnew lets all workers begin anew if a person has intervened since they have: each
// one reads its checkpoint, and looks for records that are to be applied again. Nothing is
// applied from where they were: the checkpoint they would advance from is not there.
func (r *crew) beginAnew(last int64) {
	if r.heeded == last {
		return
	}
	r.heeded = last
	for _, w := range r.workers {
		if !w.stopping {
			w.again = true
			w.end()
		}
	}
	if len(r.workers) > 0 {
		r.log.Info("somebody has intervened: reading the checkpoints again")
	}
}

// heed does the same for who calls RunOnce.
func (c *Consumer) heed(ctx context.Context) error {
	if time.Since(c.looked) < heedPause {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	var last int64
	if err := c.cfg.DB.QueryRow(ctx, c.cfg.Schema.SQL(sqlLastIntervention), c.cfg.Name).Scan(&last); err != nil {
		return err
	}
	c.looked = time.Now()
	if c.heeded == last {
		return nil
	}
	c.heeded = last
	for _, p := range c.partitions {
		p.reader.Forget()
		p.requeued = true
	}
	return nil
}

// waitPaused waits until this worker is told to end, as it is when somebody intervenes
// again: to resume the consumer, too.
func (c *partitionConsumer) waitPaused(ctx context.Context, paused *unilog.PausedError) {
	if c.saysPaused.CompareAndSwap(false, true) {
		c.log.Warn("paused: applying nothing until it is resumed", "since", paused.Since, "by", paused.By)
	}
	<-ctx.Done()
}
