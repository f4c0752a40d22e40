package consumer

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
)

// sqlBehind counts the partitions in which a consumer has not applied all entries
// before the barrier. Index: checkpoints_pkey; a row per partition.
const sqlBehind = `
SELECT count(*)
FROM unnest($2::bigint[]) WITH ORDINALITY AS b (barrier, n)
LEFT JOIN unilog.checkpoints AS c ON c.name = $1 AND c.partition = b.n - 1
WHERE coalesce(c."offset", 0) < b.barrier - 1`

// passBarrier passes a barrier, which is the entry that follows the checkpoint, if
// all partitions have come to it. If not, it looks at everything again: a checkpoint
// that a crash has taken back would wait for itself.
func (c *partitionConsumer) passBarrier(ctx, work context.Context, b *barrier.Barrier, e unilog.Entry, wait time.Duration) (int, error) {
	// All partitions look at each other's checkpoints.
	if err := c.savePassed(work); err != nil {
		return 0, c.unlessOvertaken(err)
	}
	passes, err := b.Await(ctx, c.log, wait, func(ctx context.Context) (behind int, err error) {
		err = c.cfg.DB.QueryRow(ctx, c.cfg.Schema.SQL(sqlBehind), c.cfg.Name, b.Offsets).Scan(&behind)
		return behind, err
	})
	if err != nil || !passes {
		c.reader.Forget()
		return 0, err
	}
	err = c.save(work, e.Cursor(), func(context.Context, pgx.Tx) error { return nil })
	return 1, c.unlessOvertaken(err)
}
