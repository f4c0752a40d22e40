package dashboard

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	historyFor = 5 * time.Minute
	notesMost  = 100
	// queueMost is how many events may wait for a viewer. One that does not keep up
	// is dropped, and gets a new hello when it comes again.
	queueMost = 64
	// viewersMost bounds the connections that a browser gone wild may hold.
	viewersMost = 100
)

var (
	errTooMany = errors.New("too many viewers: close some pages")
	errEnded   = errors.New("the dashboard stops")
)

// hub gives all viewers the same events, and remembers what a new one must know.
// It is safe for concurrent use.
type hub struct {
	// arrived gets a value when there is a viewer again.
	arrived chan struct{}

	mu      sync.Mutex
	viewers map[*viewer]struct{}
	ended   bool
	history []json.RawMessage // a sample a second, oldest first
	second  int64             // of the last one
	notes   []note
	marks   marks
	lastID  int64
	audit   json.RawMessage
	system  json.RawMessage
	scene   *scene // of the terminal that looks, or nil
}

// viewer is one connection.
type viewer struct {
	queue chan []byte
	gone  chan struct{} // closed when it is dropped
}

func newHub() *hub {
	return &hub{arrived: make(chan struct{}, 1), viewers: map[*viewer]struct{}{}, notes: []note{}, marks: marks{}, history: []json.RawMessage{}}
}

// join adds a viewer, who gets h, filled in, first, and then all that comes after.
func (b *hub) join(h hello) (*viewer, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.ended:
		return nil, errEnded
	case len(b.viewers) >= viewersMost:
		return nil, errTooMany
	}
	h.History, h.Notes, h.Marks, h.Audit, h.System = b.history, b.notes, b.marks, b.audit, b.system
	v := &viewer{queue: make(chan []byte, queueMost), gone: make(chan struct{})}
	v.queue <- event("hello", encode(h))
	b.viewers[v] = struct{}{}
	select {
	case b.arrived <- struct{}{}:
	default:
	}
	return v, nil
}

func (b *hub) leave(v *viewer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(v)
}

// drop is called with the lock held.
func (b *hub) drop(v *viewer) {
	if _, in := b.viewers[v]; in {
		delete(b.viewers, v)
		close(v.gone)
	}
}

// end drops all viewers, and lets no one in any more.
func (b *hub) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	for v := range b.viewers {
		b.drop(v)
	}
}

func (b *hub) watched() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.scene != nil || len(b.viewers) > 0
}

// send is called with the lock held. It waits for nobody.
func (b *hub) send(name string, data []byte) {
	e := event(name, data)
	for v := range b.viewers {
		select {
		case v.queue <- e:
		default:
			b.drop(v)
		}
	}
}

func (b *hub) sample(s *sample) {
	data := encode(s)
	b.mu.Lock()
	defer b.mu.Unlock()
	if second := s.Time / 1000; second != b.second {
		b.second = second
		b.history = append(b.history, data)
		b.history = b.history[max(0, len(b.history)-int(historyFor/time.Second)):]
	}
	b.scene.sampled(s)
	b.send("sample", data)
}

func (b *hub) audited(a *auditFigure) {
	data := encode(a)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.audit = data
	b.scene.audited(a)
	b.send("audit", data)
}

func (b *hub) note(n note) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lastID++
	n.ID, n.Failed = b.lastID, n.failed()
	b.notes = append(b.notes, n)
	b.notes = b.notes[max(0, len(b.notes)-notesMost):]
	b.scene.noted(n)
	n.Mark = b.marks.add(&n)
	b.send("note", encode(n))
}

// runs takes what `up` says of the system.
func (b *hub) runs(system json.RawMessage) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.system = encode(system)
	b.send("system", b.system)
}

func encode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err) // figures are numbers and texts
	}
	return data
}

// event is one server-sent event. Encoded JSON has no line breaks.
func event(name string, data []byte) []byte {
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}
