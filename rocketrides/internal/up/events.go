package up

import (
	"encoding/json"
	"sync"
	"time"
)

const (
	// backlog is how many events a subscriber may be behind before it is dropped.
	backlog = 1024
	// samePerSecond bounds the lines of one source with one message.
	samePerSecond = 10
)

// events tells subscribers what happens. A slow one is dropped and never waited
// for. It is safe for concurrent use.
type events struct {
	state func() state

	mu          sync.Mutex
	subscribers map[chan []byte]struct{}
	closed      bool
	second      int64
	same        map[[2]string]int // in this second, by source and message
	dropped     map[string]int    // by source
}

func newEvents(state func() state) *events {
	return &events{state: state, subscribers: map[chan []byte]struct{}{}, same: map[[2]string]int{}, dropped: map[string]int{}}
}

// upEvent is what the supervisor does or sees, as JSON.
type upEvent struct {
	Time   time.Time `json:"time"`
	Source string    `json:"source"`
	Kind   string    `json:"kind"`
	Text   string    `json:"text"`
}

// logEvent is what a process has logged, as JSON.
type logEvent struct {
	Time    time.Time       `json:"time"`
	Source  string          `json:"source"`
	Level   string          `json:"level"`
	Msg     string          `json:"msg"`
	Attrs   json.RawMessage `json:"attrs"`
	Dropped int             `json:"dropped,omitempty"` // of this source, before it
}

// subscribe returns a channel that begins with the state and is closed when the
// subscriber is dropped or all is over.
func (e *events) subscribe() chan []byte {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := make(chan []byte, backlog)
	if e.closed {
		close(c)
		return c
	}
	e.subscribers[c] = struct{}{}
	e.send(map[string]any{"system": e.state()}, c)
	return c
}

func (e *events) unsubscribe(c chan []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drop(c)
}

func (e *events) drop(c chan []byte) {
	if _, ok := e.subscribers[c]; ok {
		delete(e.subscribers, c)
		close(c)
	}
}

// happened tells of something, when it began, and of the state after it. Its
// caller holds no lock that reading the state takes.
func (e *events) happened(began time.Time, source, kind, text string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sendAll(map[string]any{"up": upEvent{began, source, kind, text}})
	e.sendAll(map[string]any{"system": e.state()})
}

// logged tells of a record, unless the same was said too often in this second.
func (e *events) logged(source string, r *record) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.subscribers) == 0 {
		return
	}
	if now := time.Now().Unix(); now != e.second {
		e.second = now
		clear(e.same)
	}
	what := [2]string{source, r.msg}
	if e.same[what]++; e.same[what] > samePerSecond {
		e.dropped[source]++
		return
	}
	e.sendAll(map[string]any{"log": logEvent{r.time, source, r.level.String(), r.msg, r.members, e.dropped[source]}})
	e.dropped[source] = 0
}

func (e *events) sendAll(event map[string]any) {
	for c := range e.subscribers {
		e.send(event, c)
	}
}

func (e *events) send(event map[string]any, c chan []byte) {
	line, err := json.Marshal(event)
	if err != nil { // there is nothing in it that could not be written
		panic(err)
	}
	select {
	case c <- append(line, '\n'):
	default:
		e.drop(c)
	}
}

// close ends all subscriptions.
func (e *events) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	for c := range e.subscribers {
		e.drop(c)
	}
}
