package streamer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/loop"
)

const (
	// Of writers, and of who numbers for other partitions than the own.
	sqlListen         = `LISTEN staged_log_records`
	sqlListenNumbered = `LISTEN log_records`

	sqlLieDown = `SELECT pg_try_advisory_lock($1, 0)`
	sqlGetUp   = `SELECT pg_advisory_unlock($1, 0)`
)

// waiter is a session that waits for something to do.
type waiter struct {
	conn    *pgx.Conn
	silence time.Duration // after which the session ends
	low     lowWater
	wakes   bool // others wake it
	asleep  bool // it has the lock that makes writers do so
	idle    bool // there was nothing at the last look
}

// listen subscribes the session to the channel that will wake it: that of writers, or
// that of the numberer.
func (w *waiter) listen(ctx context.Context, db *pgxpool.Pool, numbers bool) error {
	// With a handler of the pool's own, what comes with another answer is not kept.
	handled := db.Config().ConnConfig.OnNotification != nil
	sql := sqlListenNumbered
	if numbers {
		sql = sqlListen
	} else {
		w.wakes = true
	}
	if w.wakes = w.wakes && !handled; !w.wakes {
		return nil
	}
	if _, err := w.conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("listen for records: %w", err)
	}
	return nil
}

// look runs the probe and, if it may, tries to take the sleep lock before it: the
// probe then sees all that was committed before the lock was granted. While a writer
// is at work, the lock is not granted.
func (w *waiter) look(ctx context.Context, sleeps bool, probe func(*pgx.Batch)) error {
	batch := &pgx.Batch{}
	if sleeps && w.wakes && !w.asleep {
		batch.Queue(sqlLieDown, int32(locks.Sleep)).QueryRow(func(row pgx.Row) error { return row.Scan(&w.asleep) })
	}
	probe(batch)
	return w.conn.SendBatch(ctx, batch).Close()
}

// look looks whether anything is staged, and falls asleep in Run if nothing is.
func (p *publisher) look(ctx context.Context) (staged bool, err error) {
	l := p.lead
	err = l.waiter.look(ctx, p.runs, func(batch *pgx.Batch) {
		batch.Queue(sqlProbe, l.term.Partition, l.low.mark).QueryRow(func(row pgx.Row) (err error) {
			staged, err = l.scanProbe(row)
			return err
		})
	})
	return staged, err
}

// getUp releases the sleep lock, so that writers stop notifying.
func (w *waiter) getUp(ctx context.Context) error {
	if !w.asleep {
		return nil
	}
	if _, err := w.conn.Exec(ctx, sqlGetUp, int32(locks.Sleep)); err != nil {
		return fmt.Errorf("wake up: %w", err)
	}
	w.asleep = false
	return nil
}

// rest waits until there is something to do, but no longer than the leader may be
// silent.
func (p *publisher) rest(ctx context.Context, idle *loop.Backoff) {
	l := p.lead
	if l == nil || l.solo && !l.asleep {
		idle.Wait(ctx)
		return
	}
	l.rest(ctx, idle, min(l.silence/2, max(0, p.cfg.upkeepPause-time.Since(l.lastUpkeep))))
}

// rest waits until it is woken, but no longer than most. If nobody wakes it, it
// looks again after a while that grows.
func (w *waiter) rest(ctx context.Context, idle *loop.Backoff, most time.Duration) {
	if !w.wakes {
		idle.Wait(ctx)
		return
	}
	if !w.notified(ctx, most) {
		return // or the next call meets the error again
	}
	w.forgetNotifications() // one is enough
	w.idle = false
}

// forgetNotifications drops those that have come, for who looks next. The session
// keeps them otherwise, as many as there are.
func (w *waiter) forgetNotifications() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for err := error(nil); err == nil; {
		_, err = w.conn.WaitForNotification(over)
	}
}

// notified waits for a notification. It ends the wait by the connection's deadline
// and not by a context: at the end of one, the pool's connections may be set to ask
// the server to cancel, and to wait for that longer than the leader may be silent.
func (w *waiter) notified(ctx context.Context, most time.Duration) bool {
	conn := w.conn.PgConn().Conn()
	ended := make(chan struct{})
	if err := conn.SetReadDeadline(time.Now().Add(most)); err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = conn.SetReadDeadline(time.Now())
	})
	_, err := w.conn.WaitForNotification(context.Background())
	if !stop() {
		<-ended
	}
	return errors.Join(err, conn.SetReadDeadline(time.Time{})) == nil
}
