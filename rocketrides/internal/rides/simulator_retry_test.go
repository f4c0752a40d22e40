package rides

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// TestSimulatorBooksEachRideOnce loses requests on their way to the api, and
// answers on their way back.
func TestSimulatorBooksEachRideOnce(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	api, _ := newAPI(t, pool)
	server := httptest.NewServer(api)
	defer server.Close()
	transport := newTransport(8, nil)
	var posts atomic.Int64
	lossy := roundTrip(func(r *http.Request) (*http.Response, error) {
		n := int64(1)
		if r.Method == http.MethodPost {
			n = posts.Add(1)
		}
		if n%5 == 0 {
			return nil, io.ErrUnexpectedEOF
		}
		response, err := transport.RoundTrip(r)
		if err == nil && n%3 == 0 {
			_ = response.Body.Close()
			return nil, io.ErrUnexpectedEOF
		}
		return response, err
	})
	out, err := simulate(t, t.Context(), SimulatorConfig{URL: server.URL, Rate: 500, For: time.Second, Concurrency: 256, Wait: await.Patience, RetryFor: await.Patience, Transport: lossy})
	if err != nil {
		t.Error(err)
	}
	var rides, keys int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM rides), (SELECT count(*) FROM idempotency_keys)`).Scan(&rides, &keys); err != nil {
		t.Fatal(err)
	}
	if rides != keys || rides == 0 {
		t.Errorf("%d rides of %d keys", rides, keys)
	}
	wantRides(t, pool, rides)
	wantOutput(t, out, fmt.Sprintf(`Rides in .*: %d created, 0 failed, \d+ not sent, [1-9]\d* sent again; .*`, rides))
}
