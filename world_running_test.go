package unilog_test

import (
	"context"
	"sync"

	"github.com/rocketrides/unilog"
)

// awaitSleep waits until the leader sleeps.
func (w *world) awaitSleep() {
	w.Helper()
	awaitEqual(w, "that the leader sleeps", true, w.sleeps)
}

// runs runs a streamer until the test ends.
func (w *world) runs(change ...func(*unilog.StreamerConfig)) {
	w.Helper()
	s := w.streamer(change...)
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.tb.Cleanup(func() {
		stop()
		w.must(receive(w, "the streamer to end", done))
	})
}

// consumes runs a consumer until it is stopped, or the test ends.
func (w *world) consumes(c *unilog.Consumer) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		w.must(receive(w, "the consumer to end", done))
	})
	w.tb.Cleanup(stop)
	return stop
}

// sleeps says whether the leader has the lock with which it sleeps.
func (w *world) sleeps() bool {
	return query[bool](w, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND classid = 1970040680)`)
}

// published waits until the log has so many entries, and the leader sleeps again.
func (w *world) published(n int) {
	w.Helper()
	w.awaitEntries(n)
	w.awaitSleep()
}
