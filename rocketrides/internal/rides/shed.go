package rides

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

const (
	// What is staged is reckoned by its first and last id: to count a million rows
	// can take a second, and this takes none. It says too much by the ids of those who
	// rolled back, and for a moment when a long transaction commits.
	// Index: staged_records_pkey twice, above the low-water mark, below which there
	// are only dead rows; partitions are some rows.
	sqlBacklog = `
SELECT CASE WHEN NOT row_security_active('unilog.staged_records') THEN (SELECT sum(next_offset - 1 - published_offset)::bigint FROM unilog.partitions) + coalesce(
    (SELECT id FROM unilog.staged_records WHERE id > low_water ORDER BY id DESC LIMIT 1)
    - (SELECT id FROM unilog.staged_records WHERE id > low_water ORDER BY id LIMIT 1) + 1, 0) END
FROM unilog.log`

	// backlogPause is the time between two looks.
	backlogPause = time.Second
	// backlogTimeout bounds a look.
	backlogTimeout = time.Second
)

// backlog is what the api knows of records that wait to be published.
type backlog struct {
	// over says to take no bookings.
	over    atomic.Bool
	failed  bool
	timeout time.Duration // of a look
}

// watchBacklog looks at the backlog now and then until ctx ends.
func (a *API) watchBacklog(ctx context.Context) {
	for ctx.Err() == nil {
		a.lookAtBacklog(ctx)
		pauseFor(ctx, backlogPause)
	}
}

// lookAtBacklog decides whether bookings are taken. They are if the backlog is
// not known: whatever is wrong then need not be wrong for them.
func (a *API) lookAtBacklog(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, a.backlog.timeout)
	defer cancel()
	var records int64
	err := a.cfg.DB.QueryRow(bounded, a.cfg.Schema.SQL(sqlBacklog)).Scan(&records)
	if err != nil && ctx.Err() != nil {
		return
	}
	if err != nil && !a.backlog.failed {
		a.cfg.Log.Warn("the backlog is not known: bookings are taken whatever it is", "err", fmt.Errorf("look at it for --max-backlog: %w", err))
	}
	a.backlog.failed = err != nil
	over := err == nil && records > int64(a.cfg.MaxBacklog)
	if before := a.backlog.over.Swap(over); before == over {
		return
	}
	if over {
		a.cfg.Log.Warn("bookings are refused: too many records wait to be published; see rocketrides status", "max_backlog", a.cfg.MaxBacklog)
	} else {
		a.cfg.Log.Info("bookings are taken again")
	}
}
