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

// Index: partitions_pkey.
const sqlPublished = `SELECT published_offset, format::text FROM unilog.partitions CROSS JOIN unilog.log WHERE partition = $1`

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

// look reads what there is. How far the log goes comes first: what is numbered
// meanwhile is not for readers yet.
func (l *Log) look(ctx context.Context, partition int, after int64, limit int) ([]unilog.Entry, error) {
	var published int64
	var format string
	err := l.pool.QueryRow(ctx, l.schema.SQL(sqlPublished), partition).Scan(&published, &format)
	err = l.missing(ctx, err)
	if err == nil {
		err = unilog.CheckFormat(format)
	}
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("pglog: read the head of partition %d: %w", partition, err)
	case published <= after:
		return nil, nil
	}
	return archive.Read(ctx, l.pool, l.schema, partition, after, published, limit)
}
