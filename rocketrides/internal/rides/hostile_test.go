package rides

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// clocklessListener makes connections on which no time passes: the limits to what a
// client may take are over when the test says so, however slow the machine is.
type clocklessListener struct {
	net.Listener

	mu    sync.Mutex
	conns map[string]*clocklessConn // by the client's address
}

func clockless(ln net.Listener) *clocklessListener {
	return &clocklessListener{Listener: ln, conns: map[string]*clocklessConn{}}
}

func (l *clocklessListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	conn := &clocklessConn{Conn: c, listener: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c.RemoteAddr().String()] = conn
	return conn, nil
}

// expire ends the time of a client, once so many bytes of its have been read, and
// the last few of them since its limit was set. That one was set is seen by its end.
func (l *clocklessListener) expire(client string, total, since int) (done bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.conns[client]
	if c == nil || c.total < total || c.since < since {
		return false
	}
	c.over = true
	if c.limited {
		_ = c.Conn.SetReadDeadline(past)
	}
	return true
}

var past = time.Unix(1, 0)

// clocklessConn is guarded by its listener's mutex.
type clocklessConn struct {
	net.Conn
	listener     *clocklessListener
	total, since int // bytes that were read, and since the limit was set
	limited      bool
	over         bool
}

func (c *clocklessConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.total, c.since = c.total+n, c.since+n
	return n, err
}

func (c *clocklessConn) SetReadDeadline(at time.Time) error {
	c.listener.mu.Lock()
	defer c.listener.mu.Unlock()
	c.limited, c.since = !at.IsZero(), 0
	if c.limited && (c.over || !at.After(time.Now())) {
		return c.Conn.SetReadDeadline(past)
	}
	return c.Conn.SetReadDeadline(time.Time{})
}

func (c *clocklessConn) Close() error {
	c.listener.mu.Lock()
	delete(c.listener.conns, c.RemoteAddr().String())
	c.listener.mu.Unlock()
	return c.Conn.Close()
}

// serveClockless runs the api behind a clocklessListener.
func serveClockless(t *testing.T, api *API) (l *clocklessListener) {
	t.Helper()
	serve(t, api, func(ln net.Listener) net.Listener {
		l = clockless(ln)
		return l
	})
	return l
}

// TestHostileInputs sees that each is refused or cut off, and that the rides are
// those that were answered 201.
func TestHostileInputs(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, log := newAPI(t, pool)
	open := serveClockless(t, api)
	guarded, _ := newAPI(t, pool, withTokens(tokensFile(t, "alice TOKEN:a\n")))
	closed := serveClockless(t, guarded)
	rides := 0
	t.Run("inputs", func(t *testing.T) {
		for kind, inputs := range map[string][]hostile{"whole": hostiles, "hang up": hangUps, "stall": stalls, "drip": drips, "token": intruders} {
			for _, h := range inputs {
				rides += strings.Count(h.want, "201")
				t.Run(kind+"/"+h.name, func(t *testing.T) {
					t.Parallel()
					server := open
					if kind == "token" {
						server = closed
					}
					if got := strings.Join(h.send(t, server, kind), " "); got != h.want {
						t.Errorf("%.200q is answered %q; want %q", h.sent, got, h.want)
					}
				})
			}
		}
	})
	wantRides(t, pool, rides)
	if strings.Contains(log.String(), "panic") || strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("logged:\n%s", log)
	}
	if w := postRide(api); w.Code != http.StatusCreated {
		t.Errorf("afterwards a ride is answered %d %s", w.Code, w.Body)
	}
}

// send returns the statuses of all answers until the connection is closed.
func (h hostile) send(t *testing.T, server *clocklessListener, kind string) (statuses []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), await.Patience) // which leaves nothing behind
	defer cancel()
	dialed, err := new(net.Dialer).DialContext(ctx, "tcp", server.Addr().String())
	if err != nil {
		t.Error(err) // not Fatal: t may be another goroutine's
		return nil
	}
	conn := dialed.(*net.TCPConn)
	defer func() { _ = conn.Close() }()
	// For a server that would wait for ever.
	if err := conn.SetDeadline(time.Now().Add(await.Patience)); err != nil {
		t.Error(err)
		return nil
	}
	// Fails if the server has heard enough.
	_, _ = io.WriteString(conn, h.sent)
	dripped := 0
	switch kind {
	case "hang up":
		_ = conn.CloseWrite()
	case "drip":
		defer drip(conn)()
		dripped = 8 // and yet the limit stays where it was
	}
	if kind == "stall" || kind == "drip" {
		for ctx.Err() == nil && !server.expire(conn.LocalAddr().String(), len(h.sent)+dripped, dripped) {
			pauseFor(ctx, time.Millisecond)
		}
	}
	reader := bufio.NewReader(conn)
	method, _, _ := strings.Cut(h.sent, " ")
	for {
		// The client hangs up when it has what it waited for; to do it earlier
		// would call off the request in hand.
		if (kind == "whole" || kind == "token") && len(statuses) == len(strings.Fields(h.want)) {
			_ = conn.CloseWrite()
		}
		answer, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("the connection is not closed")
			}
			return statuses
		}
		statuses = append(statuses, strconv.Itoa(answer.StatusCode))
		_, _ = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
	}
}

// drip sends a byte now and then, until it is stopped or the server has had enough.
func drip(conn net.Conn) (stop func()) {
	ticker := time.NewTicker(time.Millisecond)
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				if _, err := io.WriteString(conn, "x"); err != nil {
					return
				}
			}
		}
	}()
	return func() { ticker.Stop(); close(done); <-ended }
}
