package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/rides"
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
	simulator := start(t, nil, "simulator", "--url=http://"+way.Addr(), "--rate=500", "--for=2s", "--seed=1",
		"--concurrency=2000", "--acknowledged="+notes) // so that each ride is sent, however slow all are
	ended := make(chan struct{})
	faults := make(chan int)
	go func() { faults <- disturb(way, ended) }()
	var said strings.Builder
	for line := range simulator.lines {
		said.WriteString(line + "\n")
	}
	close(ended)
	if n := <-faults; n != clientFaults {
		t.Errorf("%d faults happened, want %d:\n%s", n, clientFaults, &said)
	}
	if err := simulator.cmd.Wait(); err != nil { // as when it gave up a ride, which may be booked
		t.Fatalf("%v:\n%s", err, &said)
	}

	_, summary, _ := strings.Cut(said.String(), "Rides in ")
	_, summary, _ = strings.Cut(summary, ": ")
	var created, failed, missed, again int
	if _, err := fmt.Sscanf(summary, "%d created, %d failed, %d not sent, %d sent again", &created, &failed, &missed, &again); err != nil || again == 0 {
		t.Fatalf("%v, or nothing was sent again:\n%s", err, &said)
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
	t.Logf("%d rides, %d sent again, %d not sent", created, again, missed)
	for _, p := range []*process{api, streamer, consumer} {
		p.stop()
	}
}

// clientFaults is how many there is traffic enough for: they need less than 700
// messages, and there are 969 rides.
const clientFaults = 30

// disturb cuts connections, and makes holes that last for a number of messages.
// It returns how often, which is less if the clients have ended.
func disturb(way *proxy.Proxy, ended <-chan struct{}) int {
	random := rand.New(rand.NewPCG(1, 0))
	happens := func(sprung <-chan struct{}) bool {
		select {
		case <-sprung:
			return true
		case <-ended:
			return false
		}
	}
	for n := range clientFaults {
		direction, at := proxy.Direction(1+random.IntN(2)), proxy.Nth(1+random.IntN(30))
		if random.IntN(3) > 0 {
			if !happens(way.CutAt(direction, at)) {
				return n
			}
			continue
		}
		if !happens(way.BlackholeAt(direction, at, proxy.Direction(1+random.IntN(3)))) {
			return n
		}
		// Requests still come as far as the proxy.
		if !happens(way.CutAt(proxy.ToServer, proxy.Nth(1+random.IntN(20)))) {
			return n
		}
		way.Blackhole(0)
		way.Cut() // lest each request that was lost waits for 5 s
	}
	return clientFaults
}
