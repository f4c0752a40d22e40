package main

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/freeport"
)

const deliverSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// keyedReceiver is a service that takes each record once, by its id, and fails in all
// ways meanwhile. What it knows survives its process.
type keyedReceiver struct {
	t    *testing.T
	addr string

	mu       sync.Mutex
	requests int
	last     map[string]int    // the number of the last record of a key
	bodies   map[string]string // by id
	taken    int
	repeated int
	failed   map[string]int
	server   *http.Server
}

func (r *keyedReceiver) start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go r.server.Serve(listener)
}

func (r *keyedReceiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the sender is gone
	}
	if fault := r.answer(w, q, body); fault == "slow" {
		<-q.Context().Done()
	} else if fault == "reset" {
		panic(http.ErrAbortHandler)
	}
}

// answer takes a request, or fails it, with the effect or without.
func (r *keyedReceiver) answer(w http.ResponseWriter, q *http.Request, body []byte) (fault string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests++
	switch r.requests % 80 {
	case 5, 45:
		fault = "500"
		http.Error(w, "boom", http.StatusInternalServerError)
	case 11:
		fault = "429"
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	case 17:
		fault = "slow"
	case 23, 63:
		fault = "reset"
		r.take(q.Header, body) // and the answer is lost
	default:
		r.take(q.Header, body)
		return ""
	}
	r.failed[fault]++
	return fault
}

// take has the effect of a request, unless it was there.
func (r *keyedReceiver) take(h http.Header, body []byte) {
	id := h.Get("webhook-id")
	var e struct {
		ID, Subject string
		Data        struct{ N int }
	}
	if err := json.Unmarshal(body, &e); err != nil || e.ID != id || !signed(h, body) {
		r.t.Errorf("%s is not signed, or is not what it says: %s", id, body)
	}
	if before, was := r.bodies[id]; was {
		r.repeated++
		if before != string(body) {
			r.t.Errorf("%s was %s, and comes again as %s", id, before, body)
		}
		return
	}
	if e.Data.N != r.last[e.Subject]+1 {
		r.t.Errorf("record %d of %s arrived after %d", e.Data.N, e.Subject, r.last[e.Subject])
	}
	r.last[e.Subject], r.bodies[id] = e.Data.N, string(body)
	r.taken++
}

func (r *keyedReceiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.taken
}

// signed is computed by the specification alone.
func signed(h http.Header, body []byte) bool {
	key, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(deliverSecret, "whsec_"))
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%s.%s", h.Get("webhook-id"), h.Get("webhook-timestamp"), body)
	return h.Get("webhook-signature") == "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// TestDeliverThroughEveryFault has 8 partitions delivered to a receiver that fails, is
// slow, dies and asks for patience, by a process that is killed in between.
func TestDeliverThroughEveryFault(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	env = append(env, "DELIVER_SECRET="+deliverSecret)
	says(t, env, []string{"migrate", "--partitions=8"}, "the log has 8 partitions now")
	const keys, each = 40, 15
	exec1(t, pool, fmt.Sprintf(`
		INSERT INTO unilog.staged_records (action, object, key, data)
		SELECT kind, 'order', 'k' || key, jsonb_build_object('n', n) FROM generate_series(1, %d) AS n, generate_series(1, %d) AS key,
			unnest(ARRAY['create', 'delete']) AS kind ORDER BY n, key`, each, keys))
	outside := &keyedReceiver{t: t, addr: fmt.Sprint("127.0.0.1:", freeport.Next()), last: map[string]int{}, bodies: map[string]string{}, failed: map[string]int{}}
	outside.start()
	defer func() { _ = outside.server.Close() }()
	args := []string{"deliver", "hook", "--to=http://" + outside.addr + "/hook", "--timeout=1s", "--only=order/create"}
	start(t, env, "streamer")
	ctx := await.Context(t, "deliveries")
	for round := range 3 {
		process := command(ctx, t, env, args...)
		if err := process.Start(); err != nil {
			t.Fatal(err)
		}
		await.True(t, "more records to arrive", func() bool { return outside.count() > (round+1)*keys*each/5 })
		_ = process.Process.Kill()
		_ = process.Wait()
		if round == 1 {
			_ = outside.server.Close() // with its connections
			outside.start()
		}
	}
	start(t, env, args...)
	await.Equal(t, "records that have arrived", keys*each, outside.count)
	await.That(t, "the checkpoints to follow", func() string {
		var behind int
		err := pool.QueryRow(context.Background(), `
			SELECT count(*) FROM unilog.partitions LEFT JOIN unilog.checkpoints USING (partition)
			WHERE "offset" IS DISTINCT FROM published_offset`).Scan(&behind)
		if err != nil || behind > 0 {
			return fmt.Sprint(behind, " are behind: ", err)
		}
		return ""
	})
	says(t, env, []string{"consumers", "list"}, "hook")
	outside.mu.Lock()
	defer outside.mu.Unlock()
	t.Logf("%d requests for %d records of %d keys; %d came again; failed: %v", outside.requests, outside.taken, keys, outside.repeated, outside.failed)
	for _, fault := range []string{"500", "429", "slow", "reset"} {
		if outside.failed[fault] == 0 {
			t.Errorf("nothing failed by %s", fault)
		}
	}
	if outside.repeated == 0 {
		t.Error("nothing came again, though processes were killed")
	}
}

// TestDeliverToReceiversThatRefuse sees what is parked, and when nothing is sent any more.
func TestDeliverToReceiversThatRefuse(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	for range 3 {
		exec1(t, pool, order)
	}
	var mu sync.Mutex
	requests, ids := map[string]int{}, map[string]bool{}
	count := func(of func() int) func() int { return func() int { mu.Lock(); defer mu.Unlock(); return of() } }
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests[q.URL.Path]++
		ids[q.Header.Get("ce-id")] = ids[q.Header.Get("ce-id")] || q.URL.Path == "/picky"
		switch {
		case q.URL.Path == "/gone":
			w.WriteHeader(http.StatusGone)
		case q.URL.Path == "/moved":
			http.Redirect(w, q, "/picky", http.StatusPermanentRedirect)
		case strings.HasSuffix(q.Header.Get("ce-id"), "/2"):
			http.Error(w, "no such product", http.StatusUnprocessableEntity)
		}
		if q.Header.Get("webhook-signature") != "" {
			t.Error("it is signed")
		}
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Close()
	start(t, env, "streamer")
	deliver := func(name string) (ready func(string)) {
		return start(t, env, "deliver", name, "--to=http://"+listener.Addr().String()+"/"+name,
			"--unsigned", "--format=cloudevents", "--park", "--timeout="+await.Patience.String())
	}
	gone, moved := deliver("gone"), deliver("moved")
	deliver("picky")
	gone("nothing is sent until this is started again")
	moved("/picky: redirects are not followed, so set --to to the URL that is right now")
	// One may come again, if its checkpoint could not be saved in time.
	await.Equal(t, "records that have arrived", 3, count(func() (n int) {
		for _, arrived := range ids {
			if arrived {
				n++
			}
		}
		return n
	}))
	await.That(t, "the one that was refused", func() string {
		out := execute(t, env, "deadletters", "list").out
		if !strings.Contains(out, "no such product") || strings.Contains(out, "gone") || strings.Contains(out, "moved") {
			return out
		}
		return ""
	})
	if n := count(func() int { return requests["/gone"] })(); n != 1 {
		t.Errorf("%d requests after the answer that it wants nothing more", n)
	}
}

// TestDeliverHaltsInOnePartition lets the other one go on meanwhile.
func TestDeliverHaltsInOnePartition(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	says(t, env, []string{"migrate", "--partitions=2"}, "the log has 2 partitions now")
	var mu sync.Mutex
	var refused []time.Time
	taken := 0
	server := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if q.Header.Get("unilog-object") == "bad" {
			refused = append(refused, time.Now()) // before the answer, from which on it is let alone
			http.Error(w, "no such product", http.StatusUnprocessableEntity)
			return
		}
		taken++
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(listener)
	defer server.Close()
	start(t, env, "streamer")
	stage := func(object string, keys int) {
		exec1(t, pool, fmt.Sprintf(`
			INSERT INTO unilog.staged_records (action, object, key, data) SELECT 'create', '%s', 'k' || n, '{}' FROM generate_series(1, %d) AS n`, object, keys))
	}
	stage("bad", 1)
	start(t, env, "deliver", "hook", "--to=http://"+listener.Addr().String(), "--unsigned", "--format=plain",
		"--timeout="+await.Patience.String())("rejected the record")
	for range 3 {
		stage("order", 16)
		await.True(t, "all that is in the other partition", func() bool {
			var staged, others int
			if err := pool.QueryRow(t.Context(), `
				SELECT (SELECT count(*) FROM unilog.staged_records), (SELECT count(*) FROM unilog.records WHERE partition <>
					(SELECT partition FROM unilog.records WHERE object = 'bad'))`).Scan(&staged, &others); err != nil {
				t.Fatal(err)
			}
			mu.Lock()
			defer mu.Unlock()
			return staged == 0 && taken >= others
		})
	}
	mu.Lock()
	defer mu.Unlock()
	if taken == 0 {
		t.Error("nothing was in the other partition")
	}
	for i := 1; i < len(refused); i++ {
		if pause := refused[i].Sub(refused[i-1]); pause < cli.HaltedPause {
			t.Errorf("it was tried again after %v, want %v", pause, cli.HaltedPause)
		}
	}
}
