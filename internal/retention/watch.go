package retention

import (
	"maps"
	"sync"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

// confirm is how long a process must have seen a consumer silent, by its own clock, that
// has expired by the database's: a few heartbeats. A clock of the database that jumps days
// ahead makes everyone look silent until the next one.
const confirm = 3 * loop.Heartbeat

// jump is by how much the database's clock may gain on the process's between two looks.
const jump = time.Minute

// Watch is what a process remembers of the database's clock from one look to the next. It
// is safe for concurrent use. Of nil, everything is as the database's clock says.
type Watch struct {
	// Confirm is [confirm], except in tests.
	Confirm time.Duration

	mu     sync.Mutex
	silent map[string]sighting
	// theirs and ours are the clocks at the last look, and jumped when the database's had
	// last jumped ahead.
	theirs, ours time.Time
	jumped       time.Time
}

// silence is a consumer's that the database has not heard of for long.
type silence struct {
	offset int64
	heard  time.Time // by the database's clock
}

// sighting is since when a consumer was last heard of at the same time.
type sighting struct {
	heard time.Time
	since time.Time // by the process's clock
}

// expired returns those of the silent consumers that have stayed so for long enough.
func (w *Watch) expired(silent map[string]silence, now time.Time) map[string]silence {
	if w == nil {
		return silent
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.silent
	w.silent = make(map[string]sighting, len(silent))
	expired := maps.Clone(silent)
	least := w.Confirm
	if least == 0 {
		least = confirm
	}
	for name, c := range silent {
		seen, known := before[name]
		if !known || !seen.heard.Equal(c.heard) {
			seen = sighting{c.heard, now}
		}
		w.silent[name] = seen
		if now.Sub(seen.since) < least {
			delete(expired, name)
		}
	}
	return expired
}

// Rests compares the clocks, and says for how long nothing is to be deleted for its age:
// until all that was there when the database's clock jumped ahead has that age indeed. It
// returns by how much it has jumped just now, if it has.
func (w *Watch) Rests(theirs, now time.Time, age time.Duration) (rest, jumped time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.ours.IsZero() {
		if gain := theirs.Sub(w.theirs) - now.Sub(w.ours); gain > jump {
			jumped, w.jumped = gain, now
		}
	}
	w.theirs, w.ours = theirs, now
	if w.jumped.IsZero() {
		return 0, 0
	}
	return max(0, age-now.Sub(w.jumped)), jumped
}
