package streamer

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/loop"
)

const (
	// idleFirst and idleMost bound the pause between looks at an empty staging table of a
	// numberer that cannot sleep, since a writer is at work.
	idleFirst, idleMost = time.Millisecond, 20 * time.Millisecond
	// belated is how long after it lay down the numberer mostly hears of records that its
	// last step has numbered.
	belated = time.Millisecond

	sqlLieDown = `SELECT pg_try_advisory_lock('unilog.staged_records'::regclass::oid::integer, 0)`
	sqlGetUp   = `SELECT pg_advisory_unlock('unilog.staged_records'::regclass::oid::integer, 0)`
)

// look looks whether anything is staged. If it may sleep, it tries to take the sleep
// lock before: the look then sees all that was committed before the lock was granted.
// While a writer is at work, the lock is not granted.
func (n *numberer) look(ctx context.Context, sleeps bool) (staged bool, err error) {
	err = n.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		batch := &pgx.Batch{}
		n.queueLook(batch, sleeps && n.wakes && !n.asleep, n.low.start(n.cfg.walkIDs), &n.asleep, &staged)
		return conn.SendBatch(ctx, batch).Close()
	})
	if err != nil {
		return false, fmt.Errorf("look for staged records: %w", err)
	}
	return staged, nil
}

// queueLook queues the look for rows whose ids lie after one, and the attempt to lie
// down before it.
func (n *numberer) queueLook(batch *pgx.Batch, liesDown bool, after int64, asleep, staged *bool) {
	if liesDown {
		batch.Queue(n.cfg.Schema.SQL(sqlLieDown)).QueryRow(func(row pgx.Row) error { return row.Scan(asleep) })
	}
	batch.Queue(n.cfg.Schema.SQL(sqlStaged), after).QueryRow(func(row pgx.Row) error { return row.Scan(staged) })
}

// rest waits until there is something to do, but no longer than the session may be
// silent.
func (n *numberer) rest(ctx context.Context, idle *loop.Backoff) {
	if !n.asleep || !n.idle { // or something came before it lay down, of which nobody will tell
		idle.Wait(ctx)
		return
	}
	most := min(n.cfg.SessionTimeout/2, max(0, n.cfg.upkeepPause-time.Since(n.upkeptAt)))
	began := time.Now()
	if len(n.session.wait(ctx, most, func() bool { return false })) > 0 {
		n.woken = time.Since(began) > belated
		n.idle = !n.woken // a look is enough
	}
}
