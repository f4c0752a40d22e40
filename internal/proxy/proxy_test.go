package proxy

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rocketrides/unilog/internal/await"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that answers with what it was sent.
type echo struct {
	net.Listener
	heard chan string // each chunk that it was sent
	gone  chan error  // how each connection ended
}

// start starts an echo and a proxy before it, on unix sockets or TCP.
func start(t *testing.T, over string) (*echo, *Proxy) {
	t.Helper()
	at := func(name string) string {
		if over == "tcp" {
			return "127.0.0.1:0"
		}
		dir, err := os.MkdirTemp("", "rr-") // short, as a socket's path must be
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		return filepath.Join(dir, name)
	}
	listener, err := net.Listen(over, at("server"))
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{Listener: listener, heard: make(chan string, 100), gone: make(chan error, 100)}
	var work sync.WaitGroup
	work.Go(func() { e.serve(&work) })
	p, err := Listen(at("proxy"), listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		_ = listener.Close()
		work.Wait()
	})
	return e, p
}

func (e *echo) serve(work *sync.WaitGroup) {
	for {
		conn, err := e.Accept()
		if err != nil {
			return
		}
		work.Go(func() {
			defer conn.Close()
			buf := make([]byte, 1<<10)
			for {
				n, err := conn.Read(buf)
				if err != nil {
					e.gone <- err
					return
				}
				e.heard <- string(buf[:n])
				_, _ = conn.Write(buf[:n])
			}
		})
	}
}

func dial(t *testing.T, p *Proxy) net.Conn {
	t.Helper()
	conn, err := net.Dial(network(p.Addr()), p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	bounded(t, conn)
	return conn
}

// bounded lets no read or write wait for ever.
func bounded(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(await.Patience)); err != nil {
		t.Fatal(err)
	}
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func wantReply(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("the reply is %q, %v; want %q", got, err, want)
	}
}

func wantHeard(t *testing.T, e *echo, want string) {
	t.Helper()
	if got := await.Receive(t, want, e.heard); got != want {
		t.Fatalf("the server heard %q, want %q", got, want)
	}
}

// silence is how long nothing must come. A slow machine may hide what comes later,
// and is never a reason to fail.
const silence = 20 * time.Millisecond

// wantSilence looks for what must not come.
func wantSilence(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(silence)); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes came out of the hole, and then %v", n, err)
	}
	bounded(t, conn)
}

func wantEnd(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("%d bytes came on a connection that was cut: %v", n, err)
	}
}

// wantRefused looks for the end of a new connection, which may be quick.
func wantRefused(t *testing.T, p *Proxy) {
	t.Helper()
	conn, err := net.Dial(network(p.Addr()), p.Addr())
	if err == nil {
		bounded(t, conn)
		wantEnd(t, conn)
		_ = conn.Close()
	}
}

func overEach(t *testing.T, f func(t *testing.T, e *echo, p *Proxy)) {
	t.Parallel()
	for _, over := range []string{"tcp", "unix"} {
		t.Run(over, func(t *testing.T) {
			t.Parallel()
			e, p := start(t, over)
			f(t, e, p)
		})
	}
}

func TestForwards(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		a, b := dial(t, p), dial(t, p)
		send(t, a, "one")
		wantReply(t, a, "one")
		send(t, b, "two")
		wantReply(t, b, "two")
		_ = a.Close()
		if err := await.Receive(t, "the end", e.gone); !errors.Is(err, io.EOF) {
			t.Errorf("the server sees the client leave with %v", err)
		}
		send(t, b, "three")
		wantReply(t, b, "three")
	})
}

func TestCut(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		conn := dial(t, p)
		send(t, conn, "one")
		wantReply(t, conn, "one")
		p.Cut()
		_, err := conn.Read(make([]byte, 1))
		if err == nil || network(p.Addr()) == "tcp" && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("a cut gives %v", err)
		}
		await.Receive(t, "the end", e.gone)
		again := dial(t, p)
		send(t, again, "two")
		wantReply(t, again, "two")
	})
}

func TestRefuse(t *testing.T) {
	overEach(t, func(t *testing.T, _ *echo, p *Proxy) {
		before := dial(t, p)
		send(t, before, "one")
		wantReply(t, before, "one")
		p.Refuse(true)
		wantRefused(t, p)
		send(t, before, "two")
		wantReply(t, before, "two")
		p.Refuse(false)
		after := dial(t, p)
		send(t, after, "three")
		wantReply(t, after, "three")
	})
}

func TestLead(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		other, elsewhere := start(t, network(p.Addr()))
		before := dial(t, p)
		send(t, before, "one")
		wantReply(t, before, "one")
		wantHeard(t, e, "one")
		p.Lead(elsewhere.Target())
		after := dial(t, p)
		send(t, after, "two")
		wantReply(t, after, "two")
		wantHeard(t, other, "two")
		send(t, before, "three")
		wantReply(t, before, "three")
		wantHeard(t, e, "three")
	})
}

func TestServerGone(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		_ = e.Close()
		wantRefused(t, p)
	})
}

func TestBlackhole(t *testing.T) {
	t.Parallel()
	for _, d := range []Direction{ToServer, ToClient, Both} {
		t.Run(d.String(), func(t *testing.T) {
			overEach(t, func(t *testing.T, e *echo, p *Proxy) {
				idle, conn := dial(t, p), dial(t, p)
				for _, c := range []net.Conn{idle, conn} {
					send(t, c, "before")
					wantReply(t, c, "before")
					wantHeard(t, e, "before")
				}
				p.Blackhole(d)
				unheard := dial(t, p)
				for _, c := range []net.Conn{conn, unheard} {
					send(t, c, "in")
					if d == ToClient {
						wantHeard(t, e, "in")
					}
					wantSilence(t, c)
				}
				awaitLoss(t, p, d, 2)

				p.Blackhole(0)
				send(t, conn, "after")
				wantSilence(t, conn) // what was lost is never made up for
				send(t, idle, "after")
				wantReply(t, idle, "after")
				again := dial(t, p)
				send(t, again, "again")
				wantReply(t, again, "again")
			})
		})
	}
}

func TestBlackholeHoldsTheEndBack(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		conn := dial(t, p)
		send(t, conn, "one")
		wantReply(t, conn, "one")
		p.Blackhole(ToServer)
		_ = conn.Close()
		select {
		case err := <-e.gone:
			t.Errorf("the end came out of the hole: %v", err)
		case <-time.After(silence):
		}
		p.Blackhole(0)
		await.Receive(t, "the end", e.gone)
	})
}

func TestCutAt(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		lost := p.CutAt(ToServer, Containing("three"))
		conn := dial(t, p)
		send(t, conn, "one two")
		wantReply(t, conn, "one two")
		wantHeard(t, e, "one two")
		send(t, conn, "three")
		wantEnd(t, conn)
		await.Receive(t, "the loss", lost)

		unanswered := p.CutAt(ToClient, Nth(2))
		conn = dial(t, p)
		send(t, conn, "four")
		wantReply(t, conn, "four")
		wantHeard(t, e, "four") // and not three
		send(t, conn, "five")
		wantEnd(t, conn)
		await.Receive(t, "the loss", unanswered)
		wantHeard(t, e, "five")
	})
}

func TestBlackholeAt(t *testing.T) {
	overEach(t, func(t *testing.T, e *echo, p *Proxy) {
		sprung := p.BlackholeAt(ToClient, Containing("two"), ToClient)
		conn := dial(t, p)
		send(t, conn, "one")
		wantReply(t, conn, "one")
		send(t, conn, "two")
		wantSilence(t, conn)
		await.Receive(t, "the trap", sprung)
		wantHeard(t, e, "one")
		wantHeard(t, e, "two")
		p.Cut()
		wantEnd(t, conn)
	})
}

func TestSlow(t *testing.T) {
	overEach(t, func(t *testing.T, _ *echo, p *Proxy) {
		p.Slow(5*time.Millisecond, 1000)
		conn := dial(t, p)
		began := time.Now()
		send(t, conn, "0123456789")
		wantReply(t, conn, "0123456789")
		// However fast the machine is: 5 ms and 10 bytes, there and back.
		if took := time.Since(began); took < 30*time.Millisecond {
			t.Errorf("a round trip took %v", took)
		}
		p.Slow(time.Hour, 0)
		send(t, conn, "late")
		p.Cut() // does not wait
		wantEnd(t, conn)
	})
}

func TestCloseCutsConnections(t *testing.T) {
	overEach(t, func(t *testing.T, _ *echo, p *Proxy) {
		conn := dial(t, p)
		send(t, conn, "one")
		wantReply(t, conn, "one")
		p.Blackhole(Both)
		swallowed := dial(t, p)
		send(t, swallowed, "two")
		p.Close()
		wantEnd(t, conn)
		wantEnd(t, swallowed)
		if c, err := net.Dial(network(p.Addr()), p.Addr()); err == nil {
			_ = c.Close()
			t.Error("a closed proxy accepts connections")
		}
	})
}

func TestFor(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]struct{ target, url string }{
		"postgres://me@:5432/db?host=/run/pg":      {"/run/pg/.s.PGSQL.5432", "postgres://me@ADDR/db?sslmode=disable"},
		"postgres://me:pw@host/db?sslmode=require": {"host:5432", "postgres://me:pw@ADDR/db?sslmode=require"},
		"redis://:pw@host/1":                       {"host:6379", "redis://:pw@ADDR/1"},
		"unix:///run/redis.sock":                   {"/run/redis.sock", "redis://ADDR"},
	} {
		p, err := For(url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Close)
		if got := strings.Replace(p.URL(), p.Addr(), "ADDR", 1); p.target != want.target || got != want.url {
			t.Errorf("%s: the target is %s and the URL %s, want %s and %s", url, p.target, got, want.target, want.url)
		}
	}
	for _, url := range []string{"http://host", "postgres://%zz"} {
		if _, err := For(url); err == nil {
			t.Errorf("%s: no error", url)
		}
	}
}
