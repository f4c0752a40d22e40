package up

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// countTimeout bounds the count of rides at the end, which nobody depends on.
const countTimeout = time.Second

// What processes log when it happens.
const (
	saysUnrecorded = "simulated crash after publishing"
	saysUnsaved    = "simulated crash before saving"
	saysRefused    = "double send refused"
)

// summary counts what has happened in a run. It is safe for concurrent use.
type summary struct {
	mu     sync.Mutex
	said   map[string]int // by how the message begins
	kinds  map[string]int
	booked string
	audit  string
}

func (m *summary) heard(msg string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, says := range []string{saysUnrecorded, saysUnsaved, saysRefused} {
		if strings.HasPrefix(msg, says) {
			if m.said == nil {
				m.said = map[string]int{}
			}
			m.said[says]++
		}
	}
}

func (m *summary) happened(kind string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.kinds == nil {
		m.kinds = map[string]int{}
	}
	m.kinds[kind]++
}

func (m *summary) audited(result string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.audit = result
}

// countRides asks the database while it is there.
func (s *supervisor) countRides() {
	if s.cfg.Controls == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), countTimeout)
	defer cancel()
	n, err := s.cfg.Controls.Booked(ctx)
	s.summary.mu.Lock()
	defer s.summary.mu.Unlock()
	s.summary.booked = fmt.Sprint(n)
	if err != nil {
		s.summary.booked = "unknown: postgres did not say"
	}
}

// sumUp prints the summary, if any process was started.
func (s *supervisor) sumUp() {
	m := &s.summary
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.booked == "" {
		return
	}
	s.out.say("rides booked:         %s", m.booked)
	s.out.say("batches failed:       %d after publishing, %d before saving, on purpose", m.said[saysUnrecorded], m.said[saysUnsaved])
	s.out.say("double sends refused: %d", m.said[saysRefused])
	s.out.say("crashes:              %d, and %d kills on purpose", m.kinds["died"], m.kinds["killed"])
	if done := m.faults(); done != "" {
		s.out.say("other faults:         %s", done)
	}
	if m.audit != "" {
		s.out.say("audit:                %s", m.audit)
	}
}

// faults are those that actions made, but for kills.
func (m *summary) faults() string {
	var parts []string
	for _, fault := range []struct{ kind, times string }{
		{"frozen", "frozen"}, {"emptied", "redis emptied"}, {"cut", "redis cut off"},
	} {
		if n := m.kinds[fault.kind]; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %d×", fault.times, n))
		}
	}
	return strings.Join(parts, ", ")
}
