package proxy

import "bytes"

// trap waits for a chunk of bytes and then cuts its connection, or digs a hole.
type trap struct {
	direction Direction
	match     Match
	hole      Direction // neither: cut
	sprung    chan struct{}
}

// Match picks a chunk of bytes, which is what one read gave: a small request or
// answer whole, a large one in parts. It is never called concurrently.
type Match func(chunk []byte) bool

// Nth matches the nth chunk, from 1.
func Nth(n int) Match {
	return func([]byte) bool {
		n--
		return n == 0
	}
}

// Containing matches a chunk that contains a text.
func Containing(text string) Match {
	return func(chunk []byte) bool { return bytes.Contains(chunk, []byte(text)) }
}

// CutAt resets the connection that brings the first chunk which matches,
// instead of passing that on. So a request is lost before the server has it, or
// an answer after the server has done what was asked. The channel is closed
// when it has happened. There is one trap at a time: the last one set.
func (p *Proxy) CutAt(d Direction, match Match) (sprung <-chan struct{}) {
	return p.setTrap(&trap{direction: d, match: match})
}

// BlackholeAt is CutAt for a black hole, which swallows that chunk first if it
// is in its direction.
func (p *Proxy) BlackholeAt(d Direction, match Match, hole Direction) (sprung <-chan struct{}) {
	return p.setTrap(&trap{direction: d, match: match, hole: hole})
}

// Disarm takes the last trap away, if it has not sprung.
func (p *Proxy) Disarm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = nil
}

func (p *Proxy) setTrap(t *trap) <-chan struct{} {
	t.sprung = make(chan struct{})
	p.mu.Lock()
	defer p.mu.Unlock()
	p.trap = t
	return t.sprung
}
