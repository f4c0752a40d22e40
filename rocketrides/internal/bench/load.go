package bench

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sync/errgroup"
)

// loadResult is what [loadAPI] counted after its warm-up.
type loadResult struct {
	rides     int     // answered with 201
	perSecond float64 // rides a second
	errors    int     // answered with another status, in the warm-up or after it
	// latency is that of the rides, from request to answer, in microseconds.
	latency *hdrhistogram.Histogram
}

const (
	// answerTimeout is how long after the run's end an answer is waited for.
	answerTimeout = 10 * time.Second
	rideBody      = "distance=123.45"
)

// loadAPI books rides at the api as fast as that answers, on so many connections
// at a time, for d after a warm-up. Being a closed loop it shows how much the api
// can take; its latencies are those at full load, and leave out what customers
// would wait for before their request was sent.
//
// It does without net/http's client, which took four times as much of the
// processor (31 µs a ride against 7), and shares that with the api. An answer
// that it does not understand ends the run; one of another status than 201 is
// counted, and an error at the end. With keys, each ride has an Idempotency-Key.
func loadAPI(ctx context.Context, apiURL string, connections int, keys bool, d time.Duration) (loadResult, error) {
	u, err := url.Parse(apiURL)
	if err != nil || u.Scheme != "http" || u.Port() == "" {
		return loadResult{}, fmt.Errorf("the api's URL must look like http://127.0.0.1:5005, not %q", apiURL)
	}
	if connections < 1 || d <= 0 {
		return loadResult{}, errors.New("the load needs one connection or more, and more than no time")
	}
	clients := make([]*loadClient, connections)
	for i := range clients {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", u.Host)
		if err != nil {
			return loadResult{}, fmt.Errorf("connect to the api: %w", err)
		}
		defer conn.Close()
		clients[i] = newLoadClient(conn, u.Host, keys)
	}
	from := time.Now().Add(warmUp(d))
	to := from.Add(d)
	group, running := errgroup.WithContext(ctx)
	for _, c := range clients {
		group.Go(func() error { return c.run(running, from, to) })
	}
	if err := group.Wait(); err != nil {
		return loadResult{}, fmt.Errorf("load the api: %w", cmp.Or(ctx.Err(), err))
	}

	total := loadResult{latency: newHistogram()}
	var refusal error
	for _, c := range clients {
		total.errors += c.refusals
		total.latency.Merge(c.latency)
		refusal = cmp.Or(refusal, c.refusal)
	}
	total.rides = int(total.latency.TotalCount())
	total.perSecond = float64(total.rides) / d.Seconds()
	if refusal != nil {
		return total, fmt.Errorf("the api refused %d rides: %w", total.errors, refusal)
	}
	return total, nil
}

// warmUp is how long to warm up before d.
func warmUp(d time.Duration) time.Duration { return max(d/10, 200*time.Millisecond) }

// newHistogram is of microseconds up to 10 minutes, to three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (10 * time.Minute).Microseconds(), 3)
}

// record takes what is out of the histogram's range for the nearest that is not.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 0), h.HighestTrackableValue()))
}

// loadClient sends requests on one connection, the next when the last is
// answered.
type loadClient struct {
	conn     net.Conn
	in       *bufio.Reader
	request  []byte
	key      []byte // within the request, if it has one
	latency  *hdrhistogram.Histogram
	refusals int
	refusal  error // the first
}

func newLoadClient(conn net.Conn, host string, keys bool) *loadClient {
	c := &loadClient{conn: conn, in: bufio.NewReader(conn), latency: newHistogram()}
	head := fmt.Sprintf("POST /rides HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"Content-Length: %d\r\n", host, len(rideBody))
	if !keys {
		c.request = []byte(head + "\r\n" + rideBody)
		return c
	}
	head += "Idempotency-Key: "
	const key = "0123456789abcdef"
	c.request = []byte(head + key + "\r\n\r\n" + rideBody)
	c.key = c.request[len(head) : len(head)+len(key)]
	return c
}

// run counts the rides that are booked between two times.
func (c *loadClient) run(ctx context.Context, from, to time.Time) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.Close() })
	defer stop()
	// Once, because setting a deadline costs more than it is worth each time.
	if err := c.conn.SetDeadline(to.Add(answerTimeout)); err != nil {
		return err
	}
	for sent := time.Now(); sent.Before(to); {
		if c.key != nil {
			strconv.AppendUint(c.key[:0], rand.Uint64()|1<<63, 16) // as long each time
		}
		if _, err := c.conn.Write(c.request); err != nil {
			return err
		}
		status, err := readAnswer(c.in)
		if err != nil {
			return err
		}
		answered := time.Now()
		switch {
		case status != http.StatusCreated:
			c.refusals++
			c.refusal = cmp.Or(c.refusal, fmt.Errorf("it answered %d", status))
		case answered.Before(from) || answered.After(to):
		default:
			record(c.latency, answered.Sub(sent))
		}
		sent = answered
	}
	return nil
}

// readAnswer reads one answer to its end and returns its status. It knows no
// more of HTTP than the api's answers need, and refuses the rest.
func readAnswer(in *bufio.Reader) (status int, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return 0, fmt.Errorf("no answer: %w", err)
	}
	version, rest, _ := bytes.Cut(line, []byte(" "))
	if len(rest) < 3 || string(version) != "HTTP/1.1" {
		return 0, fmt.Errorf("this is no answer in HTTP/1.1: %q", line)
	}
	if status, err = strconv.Atoi(string(rest[:3])); err != nil {
		return 0, fmt.Errorf("this is no answer in HTTP/1.1: %q", line)
	}
	length := -1
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return 0, fmt.Errorf("the header of an answer with status %d breaks off: %w", status, err)
		}
		if line = bytes.TrimSpace(line); len(line) == 0 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")) && length < 0:
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil || length < 0 {
				return 0, fmt.Errorf("an answer with status %d has an unusable header %q", status, line)
			}
		case bytes.EqualFold(name, []byte("Content-Length")),
			bytes.EqualFold(name, []byte("Transfer-Encoding")),
			bytes.EqualFold(name, []byte("Connection")):
			return 0, fmt.Errorf("an answer with status %d has an unusable header %q", status, line)
		}
	}
	if length < 0 {
		return 0, fmt.Errorf("an answer with status %d has no Content-Length", status)
	}
	if _, err := in.Discard(length); err != nil {
		return 0, fmt.Errorf("the body of an answer with status %d breaks off: %w", status, err)
	}
	if in.Buffered() > 0 {
		return 0, fmt.Errorf("an answer with status %d goes on after its %d bytes", status, length)
	}
	return status, nil
}
