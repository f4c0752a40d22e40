package redislog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestSilentConnectionIsGivenUp sees that only the call that got no answer
// suffers from it.
func TestSilentConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	way, err := proxy.For(testenv.SharedRedis(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	givesUpSilence(t, way, way.URL()+"?")
}

func TestSilentTLSConnectionIsGivenUp(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	cert, key := authority.Issue("client")
	way, err := proxy.Listen("127.0.0.1:0", testenv.TLSRedis(t, authority))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(way.Close)
	givesUpSilence(t, way, fmt.Sprintf("rediss://%s?cacert=%s&cert=%s&key=%s&", way.Addr(), authority.File, cert, key))
}

// givesUpSilence gives the client itself more patience with a connection than a test
// has. The URL lacks a last parameter.
func givesUpSilence(t *testing.T, way *proxy.Proxy, url string) {
	t.Helper()
	bound := 2 * await.Patience
	log, err := Open(t.Context(), fmt.Sprint(url, "dial_timeout=", bound, "&write_timeout=", bound), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	for name, call := range map[string]func(context.Context) error{
		"Head": func(ctx context.Context) error {
			_, err := log.Head(ctx, 0)
			return err
		},
		"Read": func(ctx context.Context) error {
			_, err := log.Read(ctx, 0, unilog.Cursor{}, 1, 0)
			return err
		},
		"Trim": func(ctx context.Context) error { return log.Trim(ctx, 0, 1) },
	} {
		way.Blackhole(proxy.Both)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s into a black hole says %v", name, err)
		}
		cancel()
		way.Blackhole(0)
		after := await.Context(t, "an answer")
		await.That(t, name+" to be answered", func() string {
			if err := call(after); err != nil {
				return err.Error()
			}
			return ""
		})
	}
}

// TestConnectionsEndWithTheLog ends one that is there, and one that is being made.
func TestConnectionsEndWithTheLog(t *testing.T) {
	t.Parallel()
	beganDial, mayGoOn := make(chan struct{}), make(chan struct{})
	var far [2]net.Conn
	dials := 0
	option := rueidis.ClientOption{DialCtxFn: func(context.Context, string, *net.Dialer, *tls.Config) (net.Conn, error) {
		near, other := net.Pipe()
		far[dials] = other
		if dials++; dials == 2 {
			close(beganDial)
			<-mayGoOn
		}
		return near, nil
	}}
	l := new(lines)
	l.follow(&option)
	if _, err := option.DialCtxFn(t.Context(), "", nil, nil); err != nil {
		t.Fatal(err)
	}
	dialled := make(chan error, 1)
	go func() {
		_, err := option.DialCtxFn(t.Context(), "", nil, nil)
		dialled <- err
	}()
	await.Receive(t, "a connection to be in the making", beganDial)
	l.end()
	close(mayGoOn)
	if err := await.Receive(t, "the connection", dialled); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection that was being made: %v", err)
	}
	for i, conn := range far {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("connection %d is not closed: %v", i, err)
		}
	}
}
