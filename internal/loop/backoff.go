package loop

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff grows the time between attempts, up to a bound, with jitter so that
// processes that failed together do not return together.
type Backoff struct {
	First, Most time.Duration
	next        time.Duration
}

// Wait sleeps for the next pause, or until ctx ends.
func (b *Backoff) Wait(ctx context.Context) { Sleep(ctx, b.Next()) }

// Next returns the next pause.
func (b *Backoff) Next() time.Duration {
	b.next = min(max(2*b.next, b.First), b.Most)
	return b.next/2 + rand.N(b.next/2+1)
}

// Reset makes the next pause the first one again.
func (b *Backoff) Reset() { b.next = 0 }

// Sleep waits for d, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// Outlive returns a context that ends some time after ctx does. The function that it
// returns ends it at once.
func Outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		Sleep(longer, by)
		cancel()
	})
	return longer, func() { stop(); cancel() }
}
