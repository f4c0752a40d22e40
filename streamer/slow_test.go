package streamer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// A call to Postgres or to the log may take five seconds, which a busy machine exceeds.
// What a test wants to see of a streamer, it sees when there was time enough for it.

// upkeep lets a streamer look after its log and its archive.
func upkeep(w *world.World, s *streamer.Streamer) {
	w.Helper()
	_, err := w.Patiently(func(ctx context.Context) (int, error) { return 0, s.Upkeep(ctx) })
	w.Must(err)
}

// persistently makes a call, beside the test, until it has had the time for it.
func persistently(ctx context.Context, once world.Once) error {
	for ctx.Err() == nil {
		if _, err := once(ctx); !world.IsSlow(err) && !errors.Is(err, unilog.ErrStandby) {
			return err
		}
	}
	return ctx.Err()
}

// unlessSlow passes a streamer's failures on until one is that of a slow machine. Those
// after it may be of what that one has left behind.
func unlessSlow(failed func(error)) func(error) {
	var slow atomic.Bool
	return func(err error) {
		if world.IsSlow(err) {
			slow.Store(true)
		}
		if !slow.Load() {
			failed(err)
		}
	}
}

// undisturbed runs a test of what only an undisturbed streamer does until the machine was
// quick enough: until attempt returns true. What it sees of a streamer that was too slow
// somewhere says nothing.
func undisturbed(t *testing.T, attempt func(t *testing.T) bool) {
	t.Helper()
	await.True(t, "a streamer that was never too slow", func() (done bool) {
		t.Run("attempt", func(t *testing.T) { done = attempt(t) })
		return done || t.Failed()
	})
}

// isTerm says whether the streamer that numbers is the one of a term, and so was not
// disturbed since it began.
func isTerm(w *world.World, epoch int) bool {
	w.Helper()
	return world.Query[int](w, `SELECT epoch FROM unilog.log`) == epoch
}
