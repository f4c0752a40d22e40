package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

// TestGapIsFilledInSmallerBatches lets a handler run out of time with what the
// archive gives, as with what the log does.
func TestGapIsFilledInSmallerBatches(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(9)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MINID", "9")
	var sizes []int
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		*cfg = consumer.WithSilence(*cfg, await.Patience) // it is the handler's time that is over
		cfg.HandlerTimeout = 50 * time.Millisecond
		cfg.Handler = func(ctx context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			sizes = append(sizes, len(entries))
			<-ctx.Done()
			return ctx.Err()
		}
	})
	for range 4 {
		if _, err := c.RunOnce(w.Ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("it says %v, want that the handler ran out of time", err)
		}
	}
	if got := fmt.Sprint(sizes); got != "[8 4 2 1]" {
		t.Errorf("the batches have %s records, want fewer each time", got)
	}
}
