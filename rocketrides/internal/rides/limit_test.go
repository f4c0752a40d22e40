package rides

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"
)

func TestRate(t *testing.T) {
	t.Parallel()
	l := &limits{perSecond: 3}
	alice, bob := client{caller: "alice"}, client{caller: "bob"}
	now := time.Now()
	passes := func(c client, now time.Time, want int) {
		t.Helper()
		got := 0
		for l.allow(c, now) {
			got++
		}
		if got != want {
			t.Errorf("%v: %d requests pass; want %d", c, got, want)
		}
	}
	passes(alice, now, 3) // a second's worth at once
	passes(alice, now, 0)
	passes(bob, now, 3)
	passes(alice, now.Add(time.Second/3+1), 1)
	passes(alice, now.Add(time.Second), 2)
	passes(alice, now.Add(time.Second), 0)
	// The generation that it was in is gone; it is not forgotten by that.
	passes(alice, now.Add(1100*time.Millisecond), 0)
	passes(alice, now.Add(time.Hour), 3) // no more than that is saved up
}

// TestFloodOfAddresses sees that limiters do not pile up, of many clients at once
// or one after another.
func TestFloodOfAddresses(t *testing.T) {
	t.Parallel()
	l := &limits{perSecond: 1}
	now := time.Now()
	kept := func() int { return len(l.younger) + len(l.older) }
	from := func(i int) client {
		return client{network: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
	}
	for i := range 4 * maxLimiters {
		if !l.allow(from(i), now) {
			t.Fatalf("client %d is refused", i)
		}
		if kept() > 2*maxLimiters {
			t.Fatalf("%d limiters are kept after %d clients", kept(), i+1)
		}
	}
	if l.allow(from(4*maxLimiters-1), now) {
		t.Error("the last client has more than its rate")
	}
	for i := range 3 {
		l.allow(from(0), now.Add(time.Duration(i+1)*time.Second))
	}
	if kept() > 2 {
		t.Errorf("%d limiters are kept after 3 s with one client", kept())
	}
}

func TestClientOf(t *testing.T) {
	t.Parallel()
	for peer, network := range map[string]string{
		"192.0.2.1:1":              "192.0.2.1",
		"192.0.2.1:65535":          "192.0.2.1",
		"192.0.2.2:1":              "192.0.2.2",
		"[::ffff:192.0.2.1]:1":     "192.0.2.1",
		"[2001:db8:0:1::1]:1":      "2001:db8:0:1::",
		"[2001:db8:0:1:f:f:f:f]:1": "2001:db8:0:1::",
		"[2001:db8:0:2::1]:1":      "2001:db8:0:2::",
		"[fe80::1%eth0]:1":         "fe80::",
		"[::1]:1":                  "::",
		"@":                        "invalid IP",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.RemoteAddr = peer
		if got := clientOf(r); got.caller != "" || got.network.String() != network {
			t.Errorf("%s is %v; want %s", peer, got, network)
		}
		if got := clientOf(withCaller(r, "alice")); got != (client{caller: "alice"}) {
			t.Errorf("alice at %s is %v", peer, got)
		}
	}
}

// useUp takes all of a client's rate, for an hour.
func useUp(a *API, c client) {
	for a.limits.allow(c, time.Now().Add(time.Hour)) {
	}
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, func(c *APIConfig) { c.RateLimit = 2 })
	useUp(api, client{network: netip.MustParseAddr("192.0.2.1")}) // of httptest
	w := postRide(api)
	wantError(t, w, http.StatusTooManyRequests, "Too many requests a second.")
	if got := w.Header().Get("Retry-After"); got != "1" {
		t.Errorf("Retry-After is %q", got)
	}
	if w := request(api, http.MethodGet, "/rides/1", "", ""); w.Code != http.StatusTooManyRequests {
		t.Errorf("GET is answered %d", w.Code)
	}
	for range 5 {
		if w := request(api, http.MethodGet, "/healthz", "", ""); w.Code != http.StatusOK {
			t.Errorf("/healthz is answered %d", w.Code)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "/rides?distance=1", nil)
	r.RemoteAddr = "192.0.2.2:1"
	other := httptest.NewRecorder()
	api.ServeHTTP(other, r)
	if other.Code != http.StatusCreated {
		t.Errorf("another client is answered %d %s", other.Code, other.Body)
	}
	wantRides(t, pool, 1)
}

// TestRateOfCallers sees that callers of one address have their own rates, which
// nobody without a token uses up.
func TestRateOfCallers(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool, withTokens(tokensFile(t, "alice TOKEN:a1\nalice TOKEN:a2\nbob TOKEN:b\n")),
		func(c *APIConfig) { c.RateLimit = 1 })
	for range 10 {
		for _, given := range []string{"", "Bearer alice", "Bearer a1 a1"} {
			if w := requestAs(api, http.MethodPost, "/rides?distance=1", given); w.Code != http.StatusUnauthorized && w.Code != http.StatusBadRequest {
				t.Errorf("%q is answered %d %s", given, w.Code, w.Body)
			}
		}
	}
	for token, want := range map[string]int{"a1": http.StatusCreated, "b": http.StatusCreated} {
		if w := requestAs(api, http.MethodPost, "/rides?distance=1", "Bearer "+token); w.Code != want {
			t.Errorf("%s is answered %d %s", token, w.Code, w.Body)
		}
	}
	useUp(api, client{caller: "alice"})
	for _, token := range []string{"a1", "a2"} {
		wantError(t, requestAs(api, http.MethodPost, "/rides?distance=1", "Bearer "+token), http.StatusTooManyRequests, "Too many requests a second.")
	}
	wantRides(t, pool, 2)
}
