package barrier

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// barrierPause is the time between looks whether all partitions have come to a
// barrier.
const barrierPause = 20 * time.Millisecond

// UpTo returns the entries before the first barrier, and the barrier if it
// comes first.
func UpTo(entries []unilog.Entry) ([]unilog.Entry, *Barrier) {
	i := 0
	for i < len(entries) && entries[i].Object != unilog.ReservedObject {
		i++
	}
	if i > 0 {
		return entries[:i], nil
	}
	if b, ok := Of(&entries[0]); ok {
		return nil, &b
	}
	return entries[:1], nil // an entry of a later version: the handler must know it
}

// Await waits until no partition is behind the barrier any more, for about as long as
// wait says, and returns whether that is so. All that was numbered before the barrier
// is then applied, in whichever partition it was.
func (b *Barrier) Await(ctx context.Context, log *slog.Logger, wait time.Duration, behind func(context.Context) (int, error)) (bool, error) {
	for began := time.Now(); ; loop.Sleep(ctx, barrierPause) {
		bounded, cancel := context.WithTimeout(ctx, loop.CallTimeout)
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
