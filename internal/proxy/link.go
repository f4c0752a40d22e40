package proxy

import (
	"context"
	"net"
	"sync"
	"time"
)

// link is one client's connection, and the one to the server that belongs to
// it. The proxy's mutex guards server and lost.
type link struct {
	proxy  *Proxy
	client net.Conn
	server net.Conn
	lost   Direction
	ctx    context.Context
	cancel context.CancelFunc
}

func (l *link) serve() {
	defer l.cancel()
	welcome, dial := l.proxy.add(l)
	if !welcome {
		reset(l.client)
		return
	}
	defer l.proxy.remove(l)
	if !dial {
		l.pump(ToServer, l.client, nil)
		return
	}
	target := l.proxy.Target()
	server, err := new(net.Dialer).DialContext(l.ctx, network(target), target)
	if err != nil || !l.attach(server) {
		reset(l.client)
		return
	}
	var pumps sync.WaitGroup
	pumps.Go(func() { l.pump(ToServer, l.client, server) })
	pumps.Go(func() { l.pump(ToClient, server, l.client) })
	pumps.Wait()
}

// attach says whether the link still lives when its server has answered.
func (l *link) attach(server net.Conn) bool {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	if l.ctx.Err() != nil {
		_ = server.Close()
		return false
	}
	l.server = server
	return true
}

// pump carries one direction until either side ends, and with it the link.
func (l *link) pump(d Direction, from, to net.Conn) {
	defer l.close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			passes, delay := l.judge(d, buf[:n])
			if passes {
				if !l.sleep(delay) {
					return
				}
				if _, err := to.Write(buf[:n]); err != nil {
					return
				}
			}
		}
		if err != nil {
			l.awaitWay(d)
			return
		}
	}
}

// judge decides what becomes of a chunk of bytes.
func (l *link) judge(d Direction, chunk []byte) (passes bool, delay time.Duration) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.trap; t != nil && d == t.direction && t.match(chunk) {
		p.trap = nil
		close(t.sprung)
		if t.hole == 0 {
			l.reset()
			return false, 0
		}
		p.setHole(t.hole)
	}
	l.lost |= p.hole & d
	if l.lost&d != 0 {
		return false, 0
	}
	delay = p.latency
	if p.rate > 0 {
		delay += time.Duration(len(chunk)) * time.Second / time.Duration(p.rate)
	}
	return true, delay
}

// sleep says whether the link is still alive after it.
func (l *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// awaitWay waits until the end of a connection can pass: like TCP, it is sent
// again and again.
func (l *link) awaitWay(d Direction) {
	for {
		l.proxy.mu.Lock()
		hole, changed := l.proxy.hole, l.proxy.changed
		l.proxy.mu.Unlock()
		if hole&d == 0 {
			return
		}
		select {
		case <-changed:
		case <-l.ctx.Done():
			return
		}
	}
}

// reset ends both connections with RST. The caller holds the proxy's mutex.
func (l *link) reset() {
	l.cancel()
	reset(l.client)
	if l.server != nil {
		reset(l.server)
	}
}

// close ends both connections in order.
func (l *link) close() {
	l.cancel()
	_ = l.client.Close()
	if l.server != nil { // written before the pumps began
		_ = l.server.Close()
	}
}

// reset closes a connection with RST, where there is such a thing.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}
