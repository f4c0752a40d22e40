package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

const loadTime = 200 * time.Millisecond

// loaded loads for longer and longer, until something was booked or refused, and no answer
// took longer than a load waits.
func loaded(t *testing.T, url string, clients int) (result loadResult, d time.Duration, err error) {
	t.Helper()
	d = loadTime / 2
	await.That(t, "an answer to a load", func() string {
		d *= 2
		result, err = loadAPI(t.Context(), url, clients, false, d)
		if !errors.Is(err, os.ErrDeadlineExceeded) && (err != nil || result.rides > 0) {
			return ""
		}
		return fmt.Sprintf("none in %v", d)
	})
	return result, d, err
}

func TestLoadAPI(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	api, err := rides.NewAPI(rides.APIConfig{DB: db, Log: slog.New(slog.DiscardHandler), DBTimeout: await.Patience})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, func(ctx context.Context, ln net.Listener) {
		if err := api.Serve(ctx, ln); err != nil {
			t.Error(err)
		}
	}, func(url string) {
		result, d, err := loaded(t, url, 4)
		if err != nil {
			t.Fatal(err)
		}
		if result.errors != 0 || int(result.latency.TotalCount()) != result.rides ||
			result.perSecond != float64(result.rides)/d.Seconds() {
			t.Errorf("%d rides, %v a second, %d errors, %d latencies",
				result.rides, result.perSecond, result.errors, result.latency.TotalCount())
		}
		// The warm-up's are there, too.
		if n := countRides(t, db); n < result.rides {
			t.Errorf("%d rides of %d are in the database", n, result.rides)
		}
	})
}

func TestLoadCountsAfterTheWarmUp(t *testing.T) {
	t.Parallel()
	serve(t, always("HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n", false), func(url string) {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c := loadClient{
			conn: conn, in: bufio.NewReader(conn), latency: newHistogram(),
			request: []byte("POST /rides HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
		}
		// There is nothing but a warm-up.
		end := time.Now().Add(loadTime)
		if err := c.run(t.Context(), end, end); err != nil || c.latency.TotalCount() != 0 {
			t.Errorf("it counts %d, %v", c.latency.TotalCount(), err)
		}
	})
}

func TestLoadAPIFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ answer, want string }{
		"unavailable":     {"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nBusy", "it answered 503"},
		"another success": {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK", "it answered 200"},
		"garbage":         {"hello\r\n", `no answer in HTTP/1.1: "hello\r\n"`},
		"no status":       {"HTTP/1.1 OK?\r\n\r\n", "no answer in HTTP/1.1"},
		"another version": {"HTTP/1.0 201 Created\r\nContent-Length: 0\r\n\r\n", "no answer in HTTP/1.1"},
		"half an answer":  {"HTTP/1.1 20", "no answer: EOF"},
		"half a header":   {"HTTP/1.1 201 Created\r\nContent-", "the header of an answer with status 201 breaks off"},
		"half a body":     {"HTTP/1.1 201 Created\r\nContent-Length: 9\r\n\r\nhalf", "the body of an answer with status 201 breaks off"},
		"no length":       {"HTTP/1.1 201 Created\r\n\r\n", "has no Content-Length"},
		"a bad length":    {"HTTP/1.1 201 Created\r\nContent-Length: -1\r\n\r\n", `unusable header "Content-Length: -1"`},
		"two lengths":     {"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "unusable header"},
		"chunks":          {"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "unusable header"},
		"a farewell":      {"HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "unusable header"},
		"too much":        {"HTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\nOK", "goes on after its 1 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			serve(t, always(c.answer, strings.HasPrefix(name, "half")), func(url string) {
				result, _, err := loaded(t, url, 2)
				if err == nil || !strings.Contains(err.Error(), c.want) || result.rides != 0 {
					t.Errorf("%d rides and %v, want none and %s", result.rides, err, c.want)
				}
			})
		})
	}
}

// A server that never answers does not hold up a caller who gives up.
func TestLoadAPIEndsWithItsContext(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 1)
	serve(t, func(ctx context.Context, ln net.Listener) {
		conn, err := ln.Accept()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		_, _ = http.ReadRequest(bufio.NewReader(conn))
		asked <- struct{}{}
		<-ctx.Done()
	}, func(url string) {
		ctx, cancel := context.WithCancel(await.Context(t, "the end of a load"))
		defer cancel()
		go func() {
			<-asked
			cancel()
		}()
		if _, err := loadAPI(ctx, url, 1, false, time.Hour); !errors.Is(err, context.Canceled) {
			t.Errorf("it ends with %v", err)
		}
	})
}

func TestLoadAPIRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"", "127.0.0.1:5005", "http://127.0.0.1", "https://127.0.0.1:5005"} {
		if _, err := loadAPI(t.Context(), url, 1, false, loadTime); err == nil || !strings.Contains(err.Error(), "must look like") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, d := range []time.Duration{0, loadTime} {
		if _, err := loadAPI(t.Context(), "http://127.0.0.1:1", 1-int(d/loadTime), false, d); err == nil || !strings.Contains(err.Error(), "one connection or more") {
			t.Errorf("for %s: %v", d, err)
		}
	}
}

// serve runs a server while client uses it.
func serve(t *testing.T, server func(context.Context, net.Listener), client func(url string)) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { server(ctx, ln) })
	defer running.Wait()
	defer ln.Close()
	defer cancel()
	client(fmt.Sprintf("http://%s", ln.Addr()))
}

// always is a server that gives every request the same answer, and may close the
// connection after it.
func always(answer string, closes bool) func(context.Context, net.Listener) {
	return func(_ context.Context, ln net.Listener) {
		var conns sync.WaitGroup
		defer conns.Wait()
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Go(func() {
				defer conn.Close()
				in := bufio.NewReader(conn)
				for {
					r, err := http.ReadRequest(in)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, r.Body)
					if _, err := conn.Write([]byte(answer)); err != nil || closes {
						return
					}
				}
			})
		}
	}
}
