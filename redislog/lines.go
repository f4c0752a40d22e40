package redislog

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"github.com/redis/rueidis"
)

// lines are the connections of a client. One on which an answer did not come in
// time is given up: the client itself would hold on to it, and what is asked
// next would wait behind what was lost.
type lines struct {
	mu    sync.Mutex
	open  map[*line]struct{}
	ended bool
}

type line struct {
	net.Conn
	lines *lines
}

// follow makes a client's connections known.
func (l *lines) follow(option *rueidis.ClientOption) {
	l.open = map[*line]struct{}{}
	dial := option.DialCtxFn // set for unix sockets
	if dial == nil {
		dial = func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
			if config == nil {
				return dialer.DialContext(ctx, "tcp", address)
			}
			return dialTLS(ctx, address, dialer, config)
		}
	}
	option.DialCtxFn = func(ctx context.Context, address string, dialer *net.Dialer, config *tls.Config) (net.Conn, error) {
		conn, err := dial(ctx, address, dialer, config)
		if err != nil {
			return nil, err
		}
		one := &line{conn, l}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.ended { // while it was made
			_ = conn.Close()
			return nil, net.ErrClosed
		}
		l.open[one] = struct{}{}
		return one, nil
	}
}

func (l *line) Close() error {
	l.lines.mu.Lock()
	delete(l.lines.open, l)
	l.lines.mu.Unlock()
	return l.Conn.Close()
}

// heard gives up the connections if an error says that no answer came in time.
func (l *lines) heard(err error) {
	if !errors.Is(err, context.DeadlineExceeded) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for one := range l.open {
		_ = one.Conn.Close()
	}
}

// end closes all connections, and those that are being made: a client that is closed
// does not know of them.
func (l *lines) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for one := range l.open {
		_ = one.Conn.Close()
	}
}
