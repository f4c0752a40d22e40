package unilog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// sleepClass is the first key of the advisory lock with which the leader sleeps;
// the second is the partition. The trigger on the staging table, which wakes it,
// has the same numbers: see the migration.
const sleepClass = lockClass + 1

const (
	sqlListen = `LISTEN staged_log_records`

	sqlLieDown = `SELECT pg_try_advisory_lock($1, $2)`
	sqlGetUp   = `SELECT pg_advisory_unlock($1, $2)`
)

// look probes and, in Run, tries to fall asleep before it: what was committed
// before the lock was granted the probe sees. While a writer is at work it fails.
func (s *Streamer) look(ctx context.Context) (staged bool, err error) {
	l := s.lead
	if l.asleep || !l.wakes || !s.runs {
		return l.probe(ctx)
	}
	batch := &pgx.Batch{}
	batch.Queue(sqlLieDown, int32(sleepClass), l.term.Partition).QueryRow(func(row pgx.Row) error {
		return row.Scan(&l.asleep)
	})
	batch.Queue(sqlProbe, l.term.Partition, l.low.mark).QueryRow(func(row pgx.Row) (err error) {
		staged, err = l.scanProbe(row)
		return err
	})
	return staged, l.conn.SendBatch(ctx, batch).Close()
}

// getUp lets writers be, if the leader was asleep.
func (l *leadership) getUp(ctx context.Context) error {
	if !l.asleep {
		return nil
	}
	if _, err := l.conn.Exec(ctx, sqlGetUp, int32(sleepClass), l.term.Partition); err != nil {
		return fmt.Errorf("wake up: %w", err)
	}
	l.asleep = false
	return nil
}

// rest waits until something is staged, but no longer than the leader may be
// silent. Not being asleep, it looks again after a while that grows.
func (s *Streamer) rest(ctx context.Context, idle *backoff) {
	l := s.lead
	if l == nil || !l.asleep {
		idle.wait(ctx)
		return
	}
	most := min(l.silence/2, max(0, s.cfg.upkeepPause-time.Since(l.lastUpkeep)))
	if !l.notified(ctx, most) {
		return // or the next call meets the error again
	}
	// One is enough.
	over, cancel := context.WithCancel(ctx)
	cancel()
	for err := error(nil); err == nil; {
		_, err = l.conn.WaitForNotification(over)
	}
	l.idle = false
}

// notified waits for a notification. It ends the wait by the connection's deadline
// and not by a context: at the end of one, the pool's connections may be set to ask
// the server to cancel, and to wait for that longer than the leader may be silent.
func (l *leadership) notified(ctx context.Context, most time.Duration) bool {
	conn := l.conn.PgConn().Conn()
	ended := make(chan struct{})
	if err := conn.SetReadDeadline(time.Now().Add(most)); err != nil {
		return false
	}
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_ = conn.SetReadDeadline(time.Now())
	})
	_, err := l.conn.WaitForNotification(context.Background())
	if !stop() {
		<-ended
	}
	return errors.Join(err, conn.SetReadDeadline(time.Time{})) == nil
}
