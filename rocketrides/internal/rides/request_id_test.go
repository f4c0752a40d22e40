package rides

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func TestRequestID(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	pool.Close() // so that what asks it fails, and is logged
	for _, tc := range []struct {
		id   string
		kept bool
	}{
		{"0b8e7c1e-5a57-4f6e-9d3f-2f1f8f6a9c01", true},
		{"Az.09_-", true},
		{strings.Repeat("x", 64), true},
		{strings.Repeat("x", 65), false},
		{"", false},
		{"a b", false},
		{"a\nlevel=ERROR", false},
		{`"},{"`, false},
		{"é", false},
		{"\x1b[31m", false},
	} {
		api, log := newAPI(t, pool, func(c *APIConfig) { c.Verbose = true })
		r := httptest.NewRequest("GET", "/rides/1", nil)
		r.Header.Set("X-Request-Id", tc.id)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		id := w.Header().Get("X-Request-Id")
		if id == "" || (id == tc.id) != tc.kept {
			t.Errorf("asked with id %q, it answered with %q", tc.id, id)
		}
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		if len(lines) != 2 {
			t.Fatalf("it logged, want the failure and the request:\n%s", log)
		}
		for _, line := range lines {
			if !strings.HasSuffix(line, " request_id="+id) {
				t.Errorf("no id %s in the line %s", id, line)
			}
		}
	}
}

func TestRequestIDsDiffer(t *testing.T) {
	t.Parallel()
	api, _ := newAPI(t, newDatabase(t))
	one, other := request(api, "GET", "/healthz", "", ""), request(api, "GET", "/healthz", "", "")
	if id := one.Header().Get("X-Request-Id"); id == other.Header().Get("X-Request-Id") {
		t.Errorf("two requests have the id %q", id)
	}
}
