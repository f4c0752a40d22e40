package pglog

import "time"

// WithoutClock makes reads of a log look again only when they are woken, and their
// listener keep a connection that is only slow: what it does not hear, nobody would see.
func WithoutClock(l *Log) {
	l.heardPause, l.deafFirst, l.deafMost = time.Hour, time.Hour, time.Hour
	l.ears.silence, l.ears.callTimeout = time.Hour, time.Hour
}

// WithoutPatience makes a log notice soon that its listener's connection is dead.
func WithoutPatience(l *Log) { l.ears.silence, l.ears.callTimeout = 100*time.Millisecond, time.Second }

// Hears says whether the log's last news was a notification.
func (l *Log) Hears() bool {
	l.ears.mu.Lock()
	defer l.ears.mu.Unlock()
	return l.ears.hears
}
