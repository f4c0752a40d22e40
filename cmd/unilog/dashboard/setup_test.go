package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// site is a database and a log of a test's own.
type site struct {
	*testing.T
	db  *pgxpool.Pool
	log unilog.Log
}

// The application: rides that are booked, and consumers that add their distances up.
const sqlApplication = `
CREATE TABLE rides (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, distance numeric NOT NULL);
CREATE TABLE consumer_states (
    name text, partition integer DEFAULT 0, total_distance numeric NOT NULL,
    PRIMARY KEY (name, partition)
)`

var ridesAudit = &Audit{
	Count: `SELECT count(*) FROM rides`,
	Equation: audit.Equation{
		Truth:  `SELECT sum(distance) FROM rides`,
		Totals: `SELECT name, sum(total_distance) FROM consumer_states GROUP BY name`,
		Amount: `(data ->> 'distance')::numeric`,
	},
}

var ridesWords = Words{
	Title: "Rocket Rides", One: "ride", Many: "rides", Does: "books", Doing: "booking", Did: "booked", Unit: "m", Measure: "metres",
}

// total is the handler of a consumer that adds distances up.
func total(name string) consumer.Handler {
	return consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
		_, err := tx.Exec(ctx, `
			INSERT INTO consumer_states AS s (name, partition, total_distance) VALUES ($1, $2, ($3::jsonb ->> 'distance')::numeric)
			ON CONFLICT (name, partition) DO UPDATE SET total_distance = s.total_distance + excluded.total_distance`, name, e.Partition, e.Data)
		return err
	})
}

func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
		return err
	}
	_, err := pool.Exec(ctx, sqlApplication)
	return err
}

func newSite(t *testing.T) *site {
	t.Helper()
	return &site{t, testenv.Database(t, "rides", migrate), logtest.NewMemory()}
}

func (s *site) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *site) exec(sql string, args ...any) {
	s.Helper()
	_, err := s.db.Exec(s.Context(), sql, args...)
	s.must(err)
}

var quietly = slog.New(slog.DiscardHandler)

// background runs something until end is called or the test ends.
func (s *site) background(f func(ctx context.Context)) (end func()) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		f(ctx)
	}()
	end = sync.OnceFunc(func() {
		stop()
		await.Receive(s, "the end of what runs in the background", ended)
	})
	s.Cleanup(end)
	return end
}

// stream runs a streamer until stop is called or the test ends.
func (s *site) stream() (stop func()) {
	s.Helper()
	streamer, err := streamer.New(streamer.Config{DB: s.db, Log: s.log, Logger: quietly})
	s.must(err)
	return s.background(func(ctx context.Context) { _ = streamer.Run(ctx) })
}

// run runs a streamer, which can be stopped, and a consumer.
func (s *site) run(consumerName string) (stopStreamer func()) {
	s.Helper()
	c, err := consumer.New(consumer.Config{
		Name: consumerName, DB: s.db, Archive: s.db, Log: s.log, Logger: quietly, Handler: total(consumerName),
	})
	s.must(err)
	s.background(func(ctx context.Context) { _ = c.Run(ctx) })
	return s.stream()
}

const sqlBook = `
WITH ride AS (INSERT INTO rides (distance) SELECT 1.25 FROM generate_series(1, $1) RETURNING id, distance)
INSERT INTO unilog.staged_records (action, object, data)
SELECT 'create', 'ride', jsonb_build_object('id', id, 'distance', distance) FROM ride`

// load books rides until the test ends, and goes on through failures.
func (s *site) load() {
	s.background(func(ctx context.Context) {
		for ctx.Err() == nil {
			_, _ = s.db.Exec(ctx, sqlBook, 3)
			select {
			case <-ctx.Done():
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
}

// served is a dashboard that runs.
type served struct {
	*site
	*Dashboard
	url    string
	logged *buffer
	stop   func()
}

// patient returns a dashboard that waits for servers as long as a test does.
func patient(cfg Config) *Dashboard {
	d := New(cfg)
	d.callFor, d.auditFor, d.shutdownFor = await.Patience, await.Patience, await.Patience
	if d.control != nil {
		d.control.actFor = await.Patience
	}
	return d
}

// serve runs a dashboard until the test ends.
func (s *site) serve(change ...func(*Config)) *served {
	s.Helper()
	logged := new(buffer)
	cfg := Config{DB: s.db, Log: s.log, Audit: ridesAudit, Words: ridesWords, Program: "rocketrides", Addr: "127.0.0.1:0", Logger: slog.New(slog.NewTextHandler(logged, nil))}
	for _, f := range change {
		f(&cfg)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	s.must(err)
	d := patient(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.Serve(ctx, ln) }()
	stop := sync.OnceFunc(func() {
		cancel()
		if err := await.Receive(s, "the end of the dashboard", ended); err != nil {
			s.Error(err)
		}
	})
	s.Cleanup(stop)
	return &served{s, d, "http://" + ln.Addr().String(), logged, stop}
}

// watching is a viewer.
type watching struct {
	*served
	body  *bufio.Reader
	close func()
	hello hello
}

// view opens a stream and takes its hello.
func (d *served) view() *watching {
	d.Helper()
	client := &http.Client{Transport: new(http.Transport), Timeout: await.Patience}
	req, err := http.NewRequestWithContext(d.Context(), http.MethodGet, d.url+"/events", nil)
	d.must(err)
	resp, err := client.Do(req)
	d.must(err)
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || got != "text/event-stream" {
		d.Fatalf("the stream begins with %d, %s", resp.StatusCode, got)
	}
	v := &watching{served: d, body: bufio.NewReader(resp.Body), close: sync.OnceFunc(func() {
		_ = resp.Body.Close()
		client.CloseIdleConnections()
	})}
	d.Cleanup(v.close)
	name, data, err := v.read()
	if err != nil || name != "hello" {
		d.Fatalf("the first event is %s, %v", name, err)
	}
	d.must(json.Unmarshal(data, &v.hello))
	return v
}

// read reads one event.
func (v *watching) read() (name string, data []byte, err error) {
	for {
		line, err := v.body.ReadBytes('\n')
		if err != nil {
			return "", nil, err
		}
		line = bytes.TrimSuffix(line, []byte("\n"))
		if text, ok := bytes.CutPrefix(line, []byte("event: ")); ok {
			name = string(text)
		}
		if text, ok := bytes.CutPrefix(line, []byte("data: ")); ok {
			data = text
		}
		if len(line) == 0 && name != "" {
			return name, data, nil
		}
	}
}

// until reads events of a kind until one is as it should be.
func until[T any](v *watching, name string, ok func(T) bool) T {
	v.Helper()
	var last T
	for {
		got, data, err := v.read()
		if err != nil {
			v.Fatalf("no %s came as it should: %v; the last one was %+v", name, err, last)
		}
		if got != name {
			continue
		}
		var next T
		v.must(json.Unmarshal(data, &next))
		if last = next; ok(last) {
			return last
		}
	}
}

// tells waits for a note that has all of the words.
func (v *watching) tells(kind string, words ...string) note {
	v.Helper()
	return until(v, "note", func(n note) bool {
		for _, word := range words {
			if !strings.Contains(n.Text, word) {
				return false
			}
		}
		return n.Kind == kind
	})
}

func anything[T any](T) bool { return true }

// buffer is a bytes.Buffer that is safe for concurrent use.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// do sends a request, with headers as name, value, name, value, and returns the
// answer's status, header and body.
func (d *served) do(method, path, body string, headers ...string) (int, http.Header, string) {
	d.Helper()
	req, err := http.NewRequestWithContext(d.Context(), method, d.url+path, strings.NewReader(body))
	d.must(err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: await.Patience}
	resp, err := client.Do(req)
	d.must(err)
	defer resp.Body.Close()
	var text bytes.Buffer
	_, err = text.ReadFrom(resp.Body)
	d.must(err)
	return resp.StatusCode, resp.Header, strings.TrimSpace(text.String())
}

// answers sees that a request is answered with a status and a text.
func (d *served) answers(status int, says string, method, path, body string, headers ...string) {
	d.Helper()
	got, _, text := d.do(method, path, body, headers...)
	if got != status || !strings.Contains(text, says) {
		d.Errorf("%s %s %s %s is answered %d %s; want %d with %q", method, path, body, fmt.Sprint(headers), got, text, status, says)
	}
}
