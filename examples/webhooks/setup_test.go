package main

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// receiver verifies what it gets, notices by the key what it has had, and fails
// at random. What it knows survives its process.
type receiver struct {
	t    *testing.T
	addr string

	mu          sync.Mutex
	random      *rand.Rand
	last        map[string]int64  // by log and partition
	effects     map[string]string // amounts by orders
	repeated    int
	failed      int
	connections map[string]bool
	server      *http.Server
}

func newReceiver(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{
		t: t, addr: fmt.Sprint("127.0.0.1:", freeport.Next()), random: rand.New(rand.NewPCG(1, 2)),
		last: map[string]int64{}, effects: map[string]string{}, connections: map[string]bool{},
	}
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *receiver) start() {
	r.t.Helper()
	listener, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = listener.Addr().String()
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go r.server.Serve(listener)
}

// kill cuts its connections off.
func (r *receiver) kill() { _ = r.server.Close() }

func (r *receiver) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, err := io.ReadAll(q.Body)
	if err != nil {
		return // the sender is gone
	}
	if why := verify(q.Header, body, time.Now()); why != "" {
		r.t.Error(why)
	}
	r.connections[q.RemoteAddr] = true
	luck := r.random.IntN(20)
	switch luck {
	case 0:
		r.failed++
		http.Error(w, "busy", http.StatusServiceUnavailable)
		return
	case 1:
		r.failed++
		w.Header().Set("Retry-After", "0")
		http.Error(w, "slow down", http.StatusTooManyRequests)
		return
	}
	r.take(q.Header.Get("Idempotency-Key"), body)
	if luck == 2 { // the effect is there, the answer is lost
		r.failed++
		panic(http.ErrAbortHandler)
	}
	fmt.Fprintln(w, strings.Repeat("thanks ", 1000)) // unless it is read, the connection is lost
}

// take has the effect of a request, unless it was there.
func (r *receiver) take(key string, body []byte) {
	cut := strings.LastIndex(key, "/")
	offset, err := strconv.ParseInt(key[cut+1:], 10, 64)
	last := r.last[key[:cut]]
	switch {
	case err != nil || offset > last+1:
		r.t.Errorf("%s arrived after %d: %v", key, last, err)
		return
	case offset <= last:
		r.repeated++
		return
	}
	var e struct {
		Type      string
		Timestamp time.Time
		Data      struct{ ID, Amount json.Number }
	}
	if err := json.Unmarshal(body, &e); err != nil || e.Type != "order.create" || e.Timestamp.IsZero() {
		r.t.Errorf("%s has the body %s: %v", key, body, err)
	}
	r.last[key[:cut]] = offset
	r.effects[e.Data.ID.String()] = e.Data.Amount.String()
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.effects)
}

// verify says what is wrong with a request, by the specification alone.
func verify(h http.Header, body []byte, now time.Time) string {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return err.Error()
	}
	seconds, err := strconv.ParseInt(h.Get("webhook-timestamp"), 10, 64)
	if err != nil || now.Sub(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return "the timestamp is " + h.Get("webhook-timestamp")
	}
	signed := append([]byte(h.Get("webhook-id")+"."+h.Get("webhook-timestamp")+"."), body...)
	mac := hmac.New(sha256.New, key)
	mac.Write(signed)
	for signature := range strings.FieldsSeq(h.Get("webhook-signature")) {
		given, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(signature, "v1,"))
		if err == nil && hmac.Equal(given, mac.Sum(nil)) && h.Get("webhook-id") == h.Get("idempotency-key") {
			return ""
		}
	}
	return fmt.Sprintf("the signature %q is not that of %q", h.Get("webhook-signature"), signed)
}
