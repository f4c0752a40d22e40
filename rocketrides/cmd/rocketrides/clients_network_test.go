package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// TestEachRideOnceOverABadNetwork loses requests and answers between simulator
// and api, and sees that the rides are exactly those that the simulator takes
// for booked. How many messages pass before each fault is random; for 60 s and
// mixed with silences, see the faults …-clients of `rocketrides torture`.
func TestEachRideOnceOverABadNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	api := start(t, s.straight, "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	streamer, consumer := start(t, s.straight, "streamer"), start(t, s.straight, "consumer", "c")
	way, err := proxy.Listen("127.0.0.1:0", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	defer way.Close()
	notes := filepath.Join(t.TempDir(), "acknowledged.jsonl")
	over := make(chan struct{})
	go func() {
		defer close(over)
		disturb(t.Context(), way)
	}()
	created, again, done := 0, 0, false
	for round := 1; !done; round++ {
		if round > 100 {
			t.Fatalf("there are yet faults to come after %d rides", created)
		}
		c, a := simulateOnce(t, way.Addr(), round, notes)
		created, again = created+c, again+a
		select {
		case <-over:
			done = true
		default:
		}
	}
	if again == 0 {
		t.Error("nothing was sent again")
	}
	s.exact(created)
	file, err := os.Open(notes)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	acks, err := rides.ReadAcknowledgements(file)
	if err != nil {
		t.Fatal(err)
	}
	ids, keys, distances := make([]int64, len(acks)), make([][16]byte, len(acks)), make([]string, len(acks))
	for i, a := range acks {
		ids[i], keys[i], distances[i] = a.ID, rides.HashKey("", a.Key), a.Distance.String()
	}
	var found string
	err = s.pool.QueryRow(t.Context(), `
		SELECT format('%s rides of %s keys; acknowledged %s, with %s keys, of %s rides that are there', (SELECT count(*) FROM rides),
			(SELECT count(DISTINCT ride_id) FROM idempotency_keys), count(*), count(DISTINCT a.key), count(DISTINCT r.id))
		FROM unnest($1::bigint[], $2::uuid[], $3::numeric[]) AS a (id, key, distance)
		LEFT JOIN idempotency_keys AS k ON k.key = a.key AND k.ride_id = a.id
		LEFT JOIN rides AS r ON r.id = k.ride_id AND r.distance = a.distance`, ids, keys, distances).Scan(&found)
	if want := fmt.Sprintf("%[1]d rides of %[1]d keys; acknowledged %[1]d, with %[1]d keys, of %[1]d rides that are there", created); err != nil || found != want {
		t.Errorf("there are %s (%v), want %s", found, err, want)
	}
	t.Logf("%d rides, %d sent again", created, again)
	for _, p := range []*process{api, streamer, consumer} {
		p.stop()
	}
}

// simulateOnce books some 500 rides, or as many as the machine bears. It says how
// many were created, and how many requests were sent again.
func simulateOnce(t *testing.T, api string, seed int, notes string) (created, again int) {
	t.Helper()
	r := execute(t, nil, "simulator", "--url=http://"+api, "--rate=500", "--for=1s", fmt.Sprint("--seed=", seed),
		"--concurrency=2000", "--acknowledged="+notes) // so that each ride is sent, however slow all are
	if r.code != 0 { // as when it gave up a ride, which may be booked
		t.Fatalf("simulator: %+v", r)
	}
	_, summary, _ := strings.Cut(r.out, "Rides in ")
	_, summary, _ = strings.Cut(summary, ": ")
	var failed, missed int
	if _, err := fmt.Sscanf(summary, "%d created, %d failed, %d not sent", &created, &failed, &missed); err != nil {
		t.Fatalf("%v in\n%s", err, r.out)
	}
	if _, rest, found := strings.Cut(summary, "not sent, "); found {
		_, _ = fmt.Sscanf(rest, "%d sent again", &again)
	}
	return created, again
}

// disturb cuts connections, and makes holes that last for a number of messages. It
// returns when all faults have happened, or ctx has ended.
func disturb(ctx context.Context, way *proxy.Proxy) {
	random := rand.New(rand.NewPCG(1, 0))
	happens := func(sprung <-chan struct{}) {
		select {
		case <-sprung:
		case <-ctx.Done():
		}
	}
	for range 30 {
		direction, at := proxy.Direction(1+random.IntN(2)), proxy.Nth(1+random.IntN(30))
		if random.IntN(3) > 0 {
			happens(way.CutAt(direction, at))
			continue
		}
		happens(way.BlackholeAt(direction, at, proxy.Direction(1+random.IntN(3))))
		// Requests still come as far as the proxy, unless there are no more.
		select {
		case <-way.CutAt(proxy.ToServer, proxy.Nth(1+random.IntN(20))):
		case <-time.After(time.Second):
		}
		way.Blackhole(0)
		way.Cut() // lest each request that was lost waits for 5 s
	}
}

// book posts a ride.
func (s *site) book(port int) error {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: await.Patience}
	resp, err := client.PostForm(fmt.Sprintf("http://127.0.0.1:%d/rides", port), url.Values{"distance": {"1.5"}})
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return errors.New(resp.Status)
	}
	return nil
}

// confirmed posts a ride until the api answers, which hears no request that comes long
// after its connection. It gives up when something has begun, or nobody listens.
func (s *site) confirmed(port int, begun <-chan struct{}) error {
	for {
		err := s.book(port)
		if err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			return err
		}
		select {
		case <-begun:
			return err
		default:
		}
	}
}
