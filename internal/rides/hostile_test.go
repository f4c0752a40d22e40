package rides

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hurry is by how much a server's time limits are shortened for clients that
// let them run out.
const hurry = 20

// hurriedListener makes connections on which every limit ends sooner.
type hurriedListener struct{ net.Listener }

func (l hurriedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return hurriedConn{c}, err
}

type hurriedConn struct{ net.Conn }

func (c hurriedConn) SetReadDeadline(at time.Time) error {
	if !at.IsZero() {
		at = time.Now().Add(time.Until(at) / hurry)
	}
	return c.Conn.SetReadDeadline(at)
}

// TestHostileInputs sees that each is refused or cut off, and that the rides are
// those that were answered 201.
func TestHostileInputs(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, log := newAPI(t, pool)
	base, _ := serve(t, api)
	hurried, _ := serve(t, api, func(ln net.Listener) net.Listener { return hurriedListener{ln} })
	guarded, _ := newAPI(t, pool, withTokens(tokensFile(t, "alice TOKEN:a\n")))
	guardedBase, _ := serve(t, guarded)
	rides := 0
	t.Run("inputs", func(t *testing.T) {
		for kind, inputs := range map[string][]hostile{"whole": hostiles, "hang up": hangUps, "stall": stalls, "drip": drips, "token": intruders} {
			for _, h := range inputs {
				rides += strings.Count(h.want, "201")
				t.Run(kind+"/"+h.name, func(t *testing.T) {
					t.Parallel()
					server := base
					switch kind {
					case "stall", "drip":
						server = hurried
					case "token":
						server = guardedBase
					}
					if got := strings.Join(h.send(t, strings.TrimPrefix(server, "http://"), kind), " "); got != h.want {
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
func (h hostile) send(t *testing.T, addr, kind string) (statuses []string) {
	t.Helper()
	dialed, err := new(net.Dialer).DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Error(err) // not Fatal: t may be another goroutine's
		return nil
	}
	conn := dialed.(*net.TCPConn)
	defer func() { _ = conn.Close() }()
	// For a server that would wait for ever.
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Error(err)
		return nil
	}
	// Fails if the server has heard enough.
	_, _ = io.WriteString(conn, h.sent)
	switch kind {
	case "hang up":
		_ = conn.CloseWrite()
	case "drip":
		defer drip(conn)()
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
	ticker := time.NewTicker(10 * time.Millisecond)
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
