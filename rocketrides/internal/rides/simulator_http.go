package rides

import (
	"context"
	cryptorand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// answer is what became of one request.
type answer struct {
	status int
	body   string
	err    error
	// took is counted from when the ride was due, so that time spent waiting to
	// be sent is not left out.
	took    time.Duration
	retries int
	// cutOff is set where the answer was lost because the simulator was stopped.
	cutOff bool
}

// newTransport keeps a connection for each request in flight. With the default
// of two for a host, a high rate would use up the machine's ports.
func newTransport(concurrency int, authorities *x509.CertPool) http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns = concurrency
	t.MaxIdleConnsPerHost = concurrency
	// Well under the api's own limit, so that the api never closes a connection
	// on which a request has just been sent.
	t.IdleConnTimeout = 30 * time.Second
	t.TLSClientConfig = &tls.Config{RootCAs: authorities}
	return t
}

func newClient(transport http.RoundTripper) *http.Client {
	return &http.Client{
		Transport: transport,
		// A redirect is no booking.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// newKey is for a ride that no other simulator has booked either.
func newKey() string { return cryptorand.Text() }

// book posts a ride until it has an answer that settles it, or its time is over,
// or the simulator is to stop.
func (s *Simulator) book(ctx, stop context.Context, distance, key string) answer {
	giveUp := time.Now().Add(s.cfg.RetryFor)
	retries := 0
	for pause := firstRetryPause; ; pause = min(2*pause, mostRetryPause) {
		a := s.post(ctx, distance, key)
		a.retries = retries
		if a.settled() || stop.Err() != nil {
			return a
		}
		pauseFor(stop, pause/2+rand.N(pause))
		if stop.Err() != nil || !time.Now().Before(giveUp) {
			return a
		}
		retries++
	}
}

// settled says whether a retry would get the same answer.
func (a answer) settled() bool {
	return a.err == nil && a.status < http.StatusInternalServerError &&
		a.status != http.StatusConflict && a.status != http.StatusTooManyRequests
}

func (s *Simulator) post(ctx context.Context, distance, key string) answer {
	ctx, cancel := context.WithTimeout(ctx, simulatorTimeout)
	defer cancel()
	form := url.Values{"distance": {distance}}.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.cfg.URL+"/rides", strings.NewReader(form))
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Idempotency-Key", key)
	if s.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.cfg.Token)
	}
	return s.do(req)
}

func (s *Simulator) do(req *http.Request) answer {
	resp, err := s.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	// Read to its end, or the connection could not be used again.
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return answer{status: resp.StatusCode, body: strings.TrimSpace(string(body)), err: err}
}

// waitForAPI asks until the api answers, ctx ends or the patience is over; only
// the last is an error.
func (s *Simulator) waitForAPI(ctx context.Context) error {
	patience, cancel := context.WithTimeout(ctx, s.cfg.Wait)
	defer cancel()
	var last error
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		err := s.askHealth(patience)
		if err == nil || ctx.Err() != nil {
			return nil
		}
		// The end of our patience says nothing about the api.
		if last == nil || patience.Err() == nil {
			last = err
		}
		if patience.Err() == nil {
			pauseFor(patience, pause/2+rand.N(pause))
		}
		if patience.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("simulator: no api answered at %s within %s: start one with `rocketrides api`, "+
				"or say where it is with --url, --port or API_PORT (the last attempt: %w)", s.cfg.URL, s.cfg.Wait, last)
		}
	}
}

func (s *Simulator) askHealth(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.cfg.URL+"/healthz", nil)
	if err != nil {
		return err
	}
	a := s.do(req)
	if a.err == nil && a.status != http.StatusOK {
		return fmt.Errorf("GET /healthz answered %d", a.status)
	}
	return a.err
}

// pauseFor waits for d, or until ctx ends.
func pauseFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
