package endtoend_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// heard notes what observers are told.
type heard []string

func (h *heard) add(format string, args ...any) { *h = append(*h, fmt.Sprintf(format, args...)) }

func (h *heard) want(t *testing.T, who string, want ...string) {
	t.Helper()
	if !slices.Equal(*h, want) {
		t.Errorf("the %s's observer was told\n%q, want\n%q", who, *h, want)
	}
}

func (h *heard) streamer() streamer.Observer {
	return streamer.Observer{
		Leading: func(_ int, epoch int64) { h.add("leading %d", epoch) },
		Numbered: func(entries []unilog.Entry, took time.Duration) {
			h.add("numbered %s %v", span(entries), took > 0)
		},
		Appended: func(entries []unilog.Entry, took time.Duration, err error) {
			h.add("appended %s %v %v", span(entries), took > 0, err)
		},
		LogLost: func(_ int, head int64) { h.add("lost after %d", head) },
		Failed:  func(err error) { h.add("failed %v", errors.Is(err, unilog.ErrSimulated)) },
	}
}

func (h *heard) consumer() consumer.Observer {
	return consumer.Observer{
		Committed: func(entries []unilog.Entry, took time.Duration) {
			h.add("committed %s %v", span(entries), took > 0)
		},
		GapFilled: func(entries []unilog.Entry) { h.add("filled %s", span(entries)) },
		Parked:    func(entry unilog.Entry, err error) { h.add("parked %d %v", entry.Offset, err) },
		Failed:    func(err error) { h.add("failed %v", err) },
	}
}

func span(entries []unilog.Entry) string {
	return fmt.Sprintf("%d-%d", entries[0].Offset, entries[len(entries)-1].Offset)
}

func TestObservers(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	var streamed, consumed, again heard
	crashed := false
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error {
			if crashed {
				return nil
			}
			crashed = true
			return unilog.ErrSimulated
		}
		cfg.Observer = streamer.Observer{}.And(streamed.streamer()).And(again.streamer())
	})
	w.Commit("1", "2", "3")
	w.Drain(s)
	streamed.want(t, "streamer",
		"leading 1", "numbered 1-3 true", "appended 1-3 true <nil>", "leading 0", "failed true",
		"leading 2", "appended 1-3 true "+unilog.ErrAlreadyAppended.Error())
	again.want(t, "second streamer", streamed...)
	w.Wipe()
	w.Commit("4")
	streamed, again = nil, nil
	w.Drain(s)
	streamed.want(t, "streamer",
		"numbered 4-4 true", "appended 4-4 true "+unilog.ErrBehind.Error(), "lost after 0", "appended 1-4 true <nil>")
	again.want(t, "second streamer", streamed...)

	w.Commit("5")
	w.Drain(s)
	w.Command("XTRIM", w.Stream, "MINID", "5-0")
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.ParkRejected = true
		cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "4")
		cfg.Observer = consumer.Observer{}.And(consumed.consumer()).And(again.consumer())
	})
	again = nil
	w.Consume(c)
	consumed.want(t, "consumer",
		"filled 1-4", "committed 1-2 true", "committed 3-3 true", "committed 4-4 true", "parked 4 poison", "committed 5-5 true")
	again.want(t, "second consumer", consumed...)
}
