package rides

import (
	"sync"
	"time"
)

// throttle lets one thing pass each second and counts the others, so that an
// outage does not fill the log with one line for each request. It is safe for
// concurrent use, and its zero value is ready.
type throttle struct {
	mu      sync.Mutex
	passed  time.Time
	dropped int
}

// pass reports whether to go ahead and, if so, how many were dropped since the
// last time.
func (t *throttle) pass(now time.Time) (dropped int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.passed.IsZero() && now.Sub(t.passed) < time.Second {
		t.dropped++
		return 0, false
	}
	dropped, t.dropped, t.passed = t.dropped, 0, now
	return dropped, true
}
