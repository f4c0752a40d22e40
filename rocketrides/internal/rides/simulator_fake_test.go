package rides

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// fakeAPI answers in no time, or in the bubble's time, and keeps the distances
// that it was sent, each key's once.
type fakeAPI struct {
	took   time.Duration
	status int   // of a POST; 201 if 0
	err    error // of every request

	mu        sync.Mutex
	distances []string
	keys      map[string]bool
}

func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	if f.err != nil {
		return nil, f.err
	}
	respond := func(status int) *http.Response {
		body := io.NopCloser(strings.NewReader(fmt.Sprintf(`{"n":%d}`, status)))
		return &http.Response{StatusCode: status, Body: body, Request: r}
	}
	if r.Method == http.MethodGet {
		return respond(http.StatusOK), nil
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	f.mu.Lock()
	if key := r.Header.Get("Idempotency-Key"); !f.keys[key] {
		if f.keys == nil {
			f.keys = map[string]bool{}
		}
		f.keys[key] = true
		f.distances = append(f.distances, form.Get("distance"))
	}
	f.mu.Unlock()
	pauseFor(r.Context(), f.took)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if f.status != 0 {
		return respond(f.status), nil
	}
	return respond(http.StatusCreated), nil
}

// simulate runs a simulator to its end and returns what it printed.
func simulate(t *testing.T, ctx context.Context, cfg SimulatorConfig) (string, error) { //nolint:revive // t comes first in this package
	t.Helper()
	var out buffer
	cfg.Out = &out
	if cfg.URL == "" {
		cfg.URL = "http://api.test"
	}
	s, err := NewSimulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = s.Run(ctx)
	return out.String(), err
}

func wantOutput(t *testing.T, out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)^" + p + "$").MatchString(out) {
			t.Errorf("no line matches %q in:\n%s", p, out)
		}
	}
}
