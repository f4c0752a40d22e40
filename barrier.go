package unilog

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
)

// barrierPause is the time between looks whether all partitions have come to a
// barrier.
const barrierPause = 20 * time.Millisecond

// sqlBehind counts the partitions that a consumer has not applied up to just before
// their barrier. Index: checkpoints_pkey; a row per partition.
const sqlBehind = `
SELECT count(*)
FROM unnest($2::bigint[]) WITH ORDINALITY AS b (barrier, n)
LEFT JOIN checkpoints AS c ON c.name = $1 AND c.partition = b.n - 1
WHERE coalesce(c."offset", 0) < b.barrier - 1`

// upToBarrier returns the entries before the first barrier, and the barrier if it
// comes first.
func upToBarrier(entries []Entry) ([]Entry, *barrier) {
	i := 0
	for i < len(entries) && entries[i].Object != reservedObject {
		i++
	}
	if i > 0 {
		return entries[:i], nil
	}
	if b, ok := barrierOf(&entries[0]); ok {
		return nil, &b
	}
	return entries[:1], nil // of a later version, which the handler has to know
}

// await waits until all partitions have come to the barrier, as the number of those
// that are behind tells, and says whether they have. Then all that was numbered
// before it is applied, in whichever partition it was.
func (b *barrier) await(ctx context.Context, log *slog.Logger, wait time.Duration, behind func(context.Context) (int, error)) (bool, error) {
	for began := time.Now(); ; sleep(ctx, barrierPause) {
		bounded, cancel := context.WithTimeout(ctx, callTimeout)
		n, err := behind(bounded)
		cancel()
		if err != nil {
			return false, fmt.Errorf("see whether all partitions have come to the barrier: %w", err)
		}
		if n == 0 {
			log.Info("the number of partitions has changed", "partitions", b.Partitions)
			return true, nil
		}
		if time.Since(began) >= wait || ctx.Err() != nil {
			return false, nil
		}
	}
}

// passBarrier passes a barrier, which is the entry that follows the checkpoint, if
// all partitions have come to it.
func (c *partitionConsumer) passBarrier(ctx, work context.Context, b *barrier, e Entry, wait time.Duration) (int, error) {
	passes, err := b.await(ctx, c.log, wait, func(ctx context.Context) (behind int, err error) {
		err = c.cfg.DB.QueryRow(ctx, sqlBehind, c.cfg.Name, b.Offsets).Scan(&behind)
		return behind, err
	})
	if err != nil || !passes {
		return 0, err
	}
	err = c.save(work, []Entry{e}, func(context.Context, pgx.Tx, []Entry) error { return nil })
	return 1, c.unlessOvertaken(err)
}

// passBarrier is that of a consumer.
func (p *delivering) passBarrier(ctx, work context.Context, b *barrier, e Entry, wait time.Duration) (int, error) {
	passes, err := b.await(ctx, p.log, wait, func(ctx context.Context) (behind int, err error) {
		for partition, offset := range b.Offsets {
			key := p.key
			key.Partition = partition
			at, err := p.cfg.Checkpoints.Load(ctx, key)
			if err != nil {
				return 0, err
			}
			if at.Offset < offset-1 {
				behind++
			}
		}
		return behind, nil
	})
	if err != nil || !passes {
		return 0, err
	}
	if err := p.save(work, Cursor{e.Offset, e.Position}); err != nil {
		return 0, err
	}
	p.passed(1)
	return 1, nil
}
