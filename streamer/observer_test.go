package streamer_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

func noting(h *world.Heard) streamer.Observer {
	return streamer.Observer{
		Leading: func(_ int, epoch int64) { h.Add("leading %d", epoch) },
		Numbered: func(entries []unilog.Entry, took time.Duration) {
			h.Add("numbered %s %v", world.Span(entries), took > 0)
		},
		Appended: func(entries []unilog.Entry, took time.Duration, err error) {
			h.Add("appended %s %v %v", world.Span(entries), took > 0, err)
		},
		LogLost: func(_ int, head int64) { h.Add("lost after %d", head) },
		Failed:  func(err error) { h.Add("failed %v", errors.Is(err, unilog.ErrSimulated)) },
	}
}

func TestObserversAreTold(t *testing.T) {
	t.Parallel()
	undisturbed(t, tellObservers)
}

func tellObservers(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	var first, second world.Heard
	crashed := false
	var slow atomic.Bool
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithUpkeepPause(*cfg, time.Hour) // it would find first that the log was emptied
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error {
			if crashed {
				return nil
			}
			crashed = true
			return unilog.ErrSimulated
		}
		cfg.Observer = streamer.Observer{}.And(noting(&first)).And(noting(&second)).And(streamer.Observer{
			Failed: func(err error) { slow.Store(slow.Load() || !errors.Is(err, unilog.ErrSimulated)) },
		})
	})
	isUndisturbed := func() bool { // it leads for the second time, after the one failure
		return !slow.Load() && world.Query[int](w, `SELECT epoch FROM unilog.partitions`) == 2
	}
	w.Commit("1", "2", "3")
	w.Drain(s)
	if !isUndisturbed() {
		return false
	}
	first.Want(w,
		"leading 1", "numbered 1-3 true", "appended 1-3 true <nil>", "leading 0", "failed true",
		"leading 2", "appended 1-3 true "+unilog.ErrAlreadyAppended.Error())
	second.Want(w, first.Told()...)
	w.Wipe()
	w.Commit("4")
	first.Forget()
	second.Forget()
	w.Drain(s)
	if !isUndisturbed() {
		return false
	}
	first.Want(w,
		"numbered 4-4 true", "appended 4-4 true "+unilog.ErrBehind.Error(), "lost after 0", "appended 1-4 true <nil>")
	second.Want(w, first.Told()...)
	return true
}

// TestObserversAreToldOfAllThatIsNumbered fails after an append, while what comes next
// has been numbered already: each record is told of once.
func TestObserversAreToldOfAllThatIsNumbered(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	var told atomic.Int64
	var once sync.Once
	w.Runs(func(cfg *streamer.Config) {
		cfg.Observer.Numbered = func(entries []unilog.Entry, _ time.Duration) { told.Add(int64(len(entries))) }
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) (err error) {
			once.Do(func() {
				w.Commit("2")
				await.Equal(t, "the next offset", 3, func() int { return world.Query[int](w, `SELECT next_offset FROM unilog.partitions`) })
				err = unilog.ErrSimulated
			})
			return err
		}
	})
	w.Commit("1")
	w.Published(2)
	await.Equal(t, "the records that were told of", 2, told.Load)
}
