package consumer_test

import (
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

func noting(h *world.Heard) consumer.Observer {
	return consumer.Observer{
		Committed: func(entries []unilog.Entry, took time.Duration) {
			h.Add("committed %s %v", world.Span(entries), took > 0)
		},
		GapFilled: func(entries []unilog.Entry) { h.Add("filled %s", world.Span(entries)) },
		Parked:    func(entry unilog.Entry, err error) { h.Add("parked %d %v", entry.Offset, err) },
		Failed:    func(err error) { h.Add("failed %v", err) },
	}
}

func TestObserversAreTold(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "2", "3", "4", "5")
	w.Drain(w.Streamer())
	w.Must(w.Memory.Trim(w.Ctx, 0, 4))
	var first, second world.Heard
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.ParkRejected = true
		cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "4")
		cfg.Observer = consumer.Observer{}.And(noting(&first)).And(noting(&second))
	})
	w.Consume(c)
	first.Want(w,
		"filled 1-4", "committed 1-2 true", "committed 3-3 true", "committed 4-4 true", "parked 4 poison", "committed 5-5 true")
	second.Want(w, first.Told()...)
}
