package deliverer

import (
	"context"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/barrier"
)

// passBarrier passes a barrier, which is the entry that follows the checkpoint, if
// all partitions have come to it. Nothing is delivered for it. If they have not, it
// looks at everything again: a checkpoint that was taken back would wait for itself.
func (p *delivering) passBarrier(ctx, work context.Context, b *barrier.Barrier, e unilog.Entry, wait time.Duration) (int, error) {
	passes, err := b.Await(ctx, p.log, wait, func(ctx context.Context) (behind int, err error) {
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
		p.reader.Forget()
		return 0, err
	}
	p.pass(e.Cursor(), 1)
	return 1, p.flush(work)
}
