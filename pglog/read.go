package pglog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

const (
	// heardPause is the time between looks of a read whose log has heard a
	// notification lately: one may be missed all the same.
	heardPause = time.Second
	// deafFirst and deafMost bound it otherwise.
	deafFirst = 50 * time.Millisecond
	deafMost  = 250 * time.Millisecond
)

// Index: log_partitions_pkey.
const sqlNumbered = `SELECT next_offset - 1 FROM log_partitions WHERE partition = $1`

// Read implements [unilog.Log]. It waits without a transaction and without a
// connection of the pool.
func (l *Log) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if wait <= 0 {
		return l.look(ctx, partition, after.Offset, limit)
	}
	over := time.After(wait)
	ended, unannounced := false, false
	pause := l.deafFirst
	for {
		// Before the look: what is committed after it wakes this read.
		news, hears := l.ears.listen(partition)
		entries, err := l.look(ctx, partition, after.Offset, limit)
		if len(entries) > 0 && unannounced {
			l.ears.missed()
		}
		if err != nil || len(entries) > 0 || ended {
			return entries, err
		}
		if hears {
			pause = l.heardPause
		}
		unannounced = true
		select {
		case <-news:
			unannounced = false
		case <-time.After(pause):
			pause = min(2*pause, l.deafMost)
		case <-over:
			ended = true
		case <-ctx.Done():
			return nil, fmt.Errorf("pglog: read partition %d: %w", partition, ctx.Err())
		}
	}
}

// look reads what there is.
func (l *Log) look(ctx context.Context, partition int, after int64, limit int) ([]unilog.Entry, error) {
	// Offsets have no gaps, so this is all that could be asked for, and of the
	// archive's chunks one or two.
	entries, err := archive.Read(ctx, l.pool, partition, after, after+int64(limit), limit)
	if err != nil || len(entries) > 0 {
		return entries, err
	}
	var numbered int64
	err = l.pool.QueryRow(ctx, sqlNumbered, partition).Scan(&numbered)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("pglog: read the head of partition %d: %w", partition, err)
	}
	if numbered <= after {
		return nil, nil
	}
	// It was numbered meanwhile, or planned before the archive got the chunk, or
	// what follows was dropped: then the log begins later.
	return archive.Read(ctx, l.pool, partition, after, numbered, limit)
}
