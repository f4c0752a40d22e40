package world

import (
	"context"
	"sync"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/streamer"
)

// AwaitSleep waits until the leader sleeps.
func (w *World) AwaitSleep() {
	w.Helper()
	AwaitEqual(w, "that the leader sleeps", true, w.Sleeps)
}

// Runs runs a streamer until the test ends.
func (w *World) Runs(change ...func(*streamer.Config)) {
	w.Helper()
	s := w.Streamer(change...)
	ctx, stop := context.WithCancel(w.Ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.TB.Cleanup(func() {
		stop()
		w.Must(Receive(w, "the streamer to end", done))
	})
}

// Consumes runs a consumer until it is stopped, or the test ends.
func (w *World) Consumes(c *consumer.Consumer) (stop func()) {
	w.Helper()
	ctx, cancel := context.WithCancel(w.Ctx)
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		w.Must(Receive(w, "the consumer to end", done))
	})
	w.TB.Cleanup(stop)
	return stop
}

// Sleeps says whether the leader has the lock with which it sleeps.
func (w *World) Sleeps() bool {
	return Query[bool](w, `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid::integer = `+locks.Staged+` AND objid = $1 AND objsubid = 2)`, locks.Sleep)
}

// Published waits until the log has so many entries, and the leader sleeps again.
func (w *World) Published(n int) {
	w.Helper()
	w.AwaitEntries(n)
	w.AwaitSleep()
}
