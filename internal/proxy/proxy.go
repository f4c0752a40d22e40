// Package proxy stands between a client and a server, Postgres and Redis alike,
// and does to their connections what networks do: it cuts them, loses what they
// carry, refuses new ones, and is slow. It knows nothing of either protocol.
//
// As in TCP, what arrives is always a beginning of what was sent: a connection
// that has lost something in one direction carries nothing more that way but its
// end, even when the hole that it fell into is gone.
package proxy

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// Direction is a set of the two ways through a proxy.
type Direction int

// The zero Direction is neither.
const (
	ToServer Direction = 1 << iota
	ToClient
	Both = ToServer | ToClient
)

func (d Direction) String() string {
	switch d {
	case ToServer:
		return "to the server"
	case ToClient:
		return "to the client"
	case Both:
		return "both ways"
	}
	return "neither way"
}

// Proxy forwards connections. Its methods are safe for concurrent use.
type Proxy struct {
	listener net.Listener
	url      string
	work     sync.WaitGroup

	mu      sync.Mutex
	target  string
	links   map[*link]struct{}
	closed  bool
	refuse  bool
	hole    Direction
	changed chan struct{} // closed when hole changes
	latency time.Duration
	rate    int // bytes a second, 0 for no bound
	trap    *trap
}

// Listen starts a proxy at an address for a server at another. An address with
// a slash is that of a unix socket, any other one of TCP; ":0" and the like
// choose a free port. Close ends it.
func Listen(address, target string) (*Proxy, error) {
	listener, err := net.Listen(network(address), address)
	if err != nil {
		return nil, fmt.Errorf("proxy: %w", err)
	}
	p := &Proxy{listener: listener, target: target, links: map[*link]struct{}{}, changed: make(chan struct{})}
	p.work.Go(p.accept)
	return p, nil
}

func network(address string) string {
	if strings.Contains(address, "/") {
		return "unix"
	}
	return "tcp"
}

// Addr is where clients connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close cuts all connections and ends the proxy. Nothing of it is left when it
// returns.
func (p *Proxy) Close() {
	p.mu.Lock()
	p.closed = true
	_ = p.listener.Close()
	p.mu.Unlock()
	p.Cut()
	p.work.Wait()
}

// Cut resets all connections that there are.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.reset()
	}
}

// Refuse resets new connections, until it is called with false.
func (p *Proxy) Refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = on
}

// Blackhole loses what is sent in a direction, the end of a connection
// included, while connections stay open and new ones are accepted. A later call
// changes the direction; neither ends it.
func (p *Proxy) Blackhole(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.setHole(d)
}

func (p *Proxy) setHole(d Direction) {
	p.hole = d
	close(p.changed)
	p.changed = make(chan struct{})
}

// Lead lets new connections go to another server, as the address of a primary does in a
// switchover. Those that there are stay where they are.
func (p *Proxy) Lead(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
}

// Target is where new connections go.
func (p *Proxy) Target() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// Slow delays all that is sent by a latency, and each direction of a connection
// to so many bytes a second. Zeros end it.
func (p *Proxy) Slow(latency time.Duration, bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.latency, p.rate = latency, bytesPerSecond
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		l := &link{proxy: p, client: client, ctx: ctx, cancel: cancel}
		p.work.Go(l.serve)
	}
}

// add makes a link one of those that Cut knows, if it is welcome. A server
// never hears of a connection whose first packet is lost on the way to it.
func (p *Proxy) add(l *link) (welcome, dial bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.refuse {
		return false, false
	}
	p.links[l] = struct{}{}
	dial = p.hole&ToServer == 0
	if !dial {
		l.lost = Both
	}
	return true, dial
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
	l.close()
}
