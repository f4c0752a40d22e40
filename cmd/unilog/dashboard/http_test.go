package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
)

// upSocket is the other end of a control socket. It keeps what it is asked to do.
func upSocket(t *testing.T, lines ...string) (path string, asked chan string) {
	t.Helper()
	path, asked = filepath.Join(t.TempDir(), "up"), make(chan string, 100)
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		for _, line := range lines {
			_, _ = io.WriteString(w, line+"\n")
		}
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	mux.HandleFunc("POST /actions", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked <- string(body)
		if strings.Contains(string(body), "nobody") {
			w.WriteHeader(http.StatusConflict)
			_, _ = io.WriteString(w, `{"error":"nothing is called nobody"}`)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	srv := httptest.NewUnstartedServer(mux)
	_ = srv.Listener.Close()
	srv.Listener = ln
	srv.Start()
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return path, asked
}

func TestActions(t *testing.T) {
	t.Parallel()
	socket, asked := upSocket(t, `{"system":{"rate":10}}`)
	d := newSite(t).serve(func(cfg *Config) { cfg.Control = socket })
	v := d.view()
	if !v.hello.Control || len(v.hello.Token) < 20 {
		t.Fatalf("hello is %+v", v.hello)
	}
	next := func() string { // up was asked before the dashboard has answered
		select {
		case got := <-asked:
			return got
		default:
			return "nothing"
		}
	}
	const kill = `{"action":"kill","target":"api"}`
	token := []string{tokenHeader, v.hello.Token}
	with := func(headers ...string) []string { return append(headers, token...) }
	d.answers(204, "", "POST", "/actions", kill, with()...)
	d.answers(204, "", "POST", "/actions", `{"action":"rate","value":20}`, with("Origin", d.url, "Sec-Fetch-Site", "same-origin")...)
	for _, want := range []string{kill, `{"action":"rate","value":20}`} {
		if got := next(); got != want {
			t.Errorf("up was asked %s, want %s", got, want)
		}
	}
	d.answers(409, "nothing is called nobody", "POST", "/actions", `{"action":"kill","target":"nobody"}`, with()...)
	next()
	d.answers(403, tokenHeader, "POST", "/actions", kill)
	d.answers(403, tokenHeader, "POST", "/actions", kill, tokenHeader, v.hello.Token[1:])
	d.answers(403, "own page", "POST", "/actions", kill, with("Origin", "http://evil.example")...)
	d.answers(403, "own page", "POST", "/actions", kill, with("Sec-Fetch-Site", "cross-site")...)
	d.answers(421, "host name", "POST", "/actions", kill, with("Host", "evil.example")...)
	d.answers(400, "the body", "POST", "/actions", `{"action":"kill","target":"`+strings.Repeat("x", bodyMost)+`"}`, with()...)
	d.answers(422, "write, kill, freeze, thaw", "POST", "/actions", `{"action":"format"}`, with()...)
	d.answers(405, "", "GET", "/actions", "")
	if got := next(); got != "nothing" {
		t.Errorf("up was also asked %s", got)
	}

	readOnly := newSite(t).serve(func(cfg *Config) { cfg.Control, cfg.ReadOnly = socket, true })
	v = readOnly.view()
	if v.hello.Control || v.hello.Token != "" {
		t.Errorf("read only, hello is %+v", v.hello)
	}
	readOnly.answers(404, "", "POST", "/actions", kill, token...)
	if string(v.hello.System) == "null" { // up has not told yet
		until(v, "system", func(s struct{ Rate int }) bool { return s.Rate == 10 })
	}
	alone := newSite(t).serve()
	alone.answers(404, "", "POST", "/actions", kill, token...)
	gone := newSite(t).serve(func(cfg *Config) { cfg.Control = filepath.Join(t.TempDir(), "none") })
	gone.answers(502, "up does not answer", "POST", "/actions", kill, tokenHeader, gone.view().hello.Token)
}

func TestPage(t *testing.T) {
	t.Parallel()
	d := newSite(t).serve()
	status, header, body := d.do("GET", "/", "")
	if status != 200 || !strings.Contains(body, "<title>") || header.Get("ETag") == "" ||
		header.Get("Content-Security-Policy") != "default-src 'self'" || header.Get("X-Content-Type-Options") != "nosniff" ||
		!strings.HasPrefix(header.Get("Content-Type"), "text/html") {
		t.Errorf("the page is %d %v", status, header)
	}
	d.answers(304, "", "GET", "/", "", "If-None-Match", header.Get("ETag"))
	d.answers(404, "", "GET", "/nothing", "")
	d.answers(404, "", "GET", "/page/index.html", "")
	d.answers(200, "ok", "GET", "/healthz", "")
	d.answers(405, "", "POST", "/", "")
	port := d.url[strings.LastIndex(d.url, ":"):]
	for host, status := range map[string]int{
		"localhost" + port: 200, "127.0.0.1" + port: 200, "[::1]" + port: 200, "LOCALHOST": 200, "127.0.0.1": 200,
		"evil.example": 421, "evil.example" + port: 421, "10.0.0.1" + port: 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421,
	} {
		d.answers(status, "", "GET", "/", "", "Host", host)
		if status == 421 {
			d.answers(status, "", "GET", "/events", "", "Host", host)
		}
	}
}

// began notes when statements begin.
type began struct {
	mu                sync.Mutex
	samples, attempts []int64 // Unix milliseconds, attempts those of transactions
}

func (b *began) TraceQueryStart(ctx context.Context, _ *pgx.Conn, query pgx.TraceQueryStartData) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case query.SQL == sqlSampleWithConsumers:
		b.samples = append(b.samples, now())
	case strings.HasPrefix(query.SQL, "begin"):
		b.attempts = append(b.attempts, now())
	}
	return ctx
}

func (b *began) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

// within counts the times from one to another.
func within(times []int64, from, to int64) (n int) {
	for _, at := range times {
		if from <= at && at < to {
			n++
		}
	}
	return n
}

// However many look, there is one statement for each sample that they all get,
// and no more than one audit.
func TestStatementsAreBounded(t *testing.T) {
	t.Parallel()
	for _, viewers := range []int{1, 20} {
		t.Run(fmt.Sprint(viewers), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			statements := new(began)
			cfg := s.db.Config()
			cfg.ConnConfig.Tracer = statements
			traced, err := pgxpool.NewWithConfig(t.Context(), cfg)
			s.must(err)
			testenv.ClosePool(t, traced)
			d := s.serve(func(cfg *Config) { cfg.DB = traced })
			for range viewers - 1 {
				go func(v *watching) {
					for {
						if _, _, err := v.read(); err != nil {
							return
						}
					}
				}(d.view())
			}
			v := d.view()
			first := until(v, "sample", anything[sample])
			last := first
			const more = 8
			for range more {
				last = until(v, "sample", anything[sample])
			}
			statements.mu.Lock()
			defer statements.mu.Unlock()
			looks, attempts := within(statements.samples, first.Time, last.Time), within(statements.attempts, first.Time, last.Time)
			// An audit may begin late.
			if looks == 0 || looks > more || attempts > 2*more+1 {
				t.Errorf("%d viewers cost %d looks and %d transactions for %d samples", viewers, looks, attempts, more)
			}
		})
	}
}

// What `up` passes on reaches viewers.
func TestNotesFromUp(t *testing.T) {
	t.Parallel()
	socket, _ := upSocket(t,
		`{"log":{"time":"2026-01-01T00:00:00Z","source":"api","level":"ERROR","msg":"handler panicked","attrs":{"err":"why"}}}`,
		`{"up":{"time":"2026-01-01T00:00:00Z","source":"api","kind":"killed","text":"api was killed."}}`,
	)
	v := newSite(t).serve(func(cfg *Config) { cfg.Control = socket }).view()
	notes := v.hello.Notes
	for !hasNote(notes, "killed", "") {
		notes = append(notes, until(v, "note", anything[note]))
	}
	var got []string
	for i, n := range notes {
		if i > 0 && n.ID != notes[i-1].ID+1 || n.Time == 0 {
			t.Errorf("after note %+v comes %+v", notes[max(0, i-1)], n)
		}
		if n.Kind != "leader" { // nobody leads
			got = append(got, n.Kind+" "+n.Source+": "+n.Text)
		}
	}
	if want := []string{"info api: api: handler panicked: why", "killed api: api was killed."}; !slices.Equal(got, want) {
		t.Errorf("the notes are %q, want %q", got, want)
	}
}

// What processes log becomes notes in plain words.
func TestNotesFromLines(t *testing.T) {
	t.Parallel()
	log := func(source, level, msg, attrs string) string {
		return fmt.Sprintf(`{"log":{"time":"2026-01-01T00:00:00Z","source":%q,"level":%q,"msg":%q,"attrs":{%s}}}`, source, level, msg, attrs)
	}
	const crash = "simulated crash after publishing, before recording it: the batch will be sent again"
	const refusal = "double send refused: the log holds these records already"
	lines := []string{
		log("streamer", "WARN", crash, `"records":12,"first":1,"last":12`),
		log("streamer", "INFO", "leading", `"epoch":2`),
		log("streamer", "INFO", refusal, `"records":8,"first":1,"last":8,"head":12`),
		log("streamer", "INFO", refusal, `"records":6,"first":9,"last":14,"head":12`),
		log("streamer", "WARN", crash, `"records":1,"first":13,"last":13`),
		log("streamer", "WARN", crash, `"records":2,"first":14,"last":15`),
		log("consumer1", "WARN", "simulated crash before saving: nothing has changed, the records are read again", `"records":3`),
		log("consumer1", "INFO", "consumed", `"records":3`),
		log("consumer1", "WARN", "consuming failed: trying again", `"err":"no\nanswer"`),
		log("consumer1", "WARN", "consuming failed: trying again", `"err":"again"`),
		log("consumer0", "WARN", "consuming failed: trying again", `"err":"read the log: dial unix /r.sock: connect: connection refused"`),
		log("api", "WARN", "request failed", `"err":"create rides: FATAL: terminating connection (SQLSTATE 57P01)"`),
		log("api", "ERROR", "handler panicked", `"err":"why"`),
		log("dashboard", "WARN", "a server cannot be read: trying again", ``),
		`{"up":{"time":"2026-01-01T00:00:00Z","source":"redis","kind":"emptied","text":"Redis was emptied."}}`,
		log("streamer", "WARN", "the log has lost records: publishing them again from the archive", `"first":1,"last":0`),
		`{"up":{"time":"2026-01-01T00:00:00Z","source":"api","kind":"killed","text":"api was killed."}}`,
	}
	var got []string
	story := newStory(func(n note) { got = append(got, n.Kind+" "+n.Source+": "+n.Text) })
	at := time.Date(2026, 1, 1, 0, 0, 1, 0, time.UTC).UnixMilli()
	story.hear(heard{connected: true}, at)
	for _, line := range lines {
		var h heard
		if err := json.Unmarshal([]byte(line), &h); err != nil {
			t.Fatal(err)
		}
		story.hear(h, at)
	}
	for range 2 {
		story.sampled(&sample{Time: at, Head: new(int64), Leader: new(leader)}, at)
	}
	want := []string{
		"refused streamer: streamer failed after publishing 12 records; sent them again; the log refused all 12.",
		"simulated streamer: streamer failed after publishing 1 record, before it noted that.",
		"simulated consumer1: consumer1 crashed before saving 3 records; nothing changed, and it starts again from its checkpoint.",
		"info consumer1: consumer1 cannot go on, and tries again: no answer",
		"info consumer0: consumer0 cannot go on, and tries again: The log does not answer.",
		"info api: api could not do what a client asked for: Postgres does not answer.",
		"info api: api: handler panicked: why",
		"lost redis: Redis was emptied.",
		"killed api: api was killed.",
		"rebuilt redis: Redis was emptied; 0 records came back from the archive within 1.0 s.",
	}
	if !slices.Equal(got, want) {
		t.Errorf("the notes are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
