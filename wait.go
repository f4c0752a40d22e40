package unilog

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff grows the time between attempts, up to a bound, with jitter so that
// processes that failed together do not return together.
type backoff struct {
	first, most time.Duration
	next        time.Duration
}

// wait sleeps for the next while, or until ctx ends.
func (b *backoff) wait(ctx context.Context) {
	b.next = min(max(2*b.next, b.first), b.most)
	sleep(ctx, b.next/2+rand.N(b.next/2+1))
}

func (b *backoff) reset() { b.next = 0 }

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// outlive returns a context that ends a while after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(longer, by)
		cancel()
	})
	return longer, func() { stop(); cancel() }
}
