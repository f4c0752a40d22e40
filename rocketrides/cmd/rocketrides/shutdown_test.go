package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// terminate ends the process as a supervisor does, and returns what it had still to
// say: no warning and no error since then, but of calls that took too long. One of
// before, as of a server that a busy machine's answers too late, may be among it.
func (p *process) terminate() string {
	p.Helper()
	at := time.Now().Truncate(time.Millisecond) // as exact as a line's time
	said := p.stop()
	for line := range strings.Lines(said) {
		alarms := strings.Contains(line, " WRN ") || strings.Contains(line, " ERR ")
		if alarms && !tooSlow(line, said) && !loggedBefore(p.T, line, at) || strings.Contains(line, "panic") {
			p.Errorf("after SIGTERM at %v it says\n%s", at, said)
			break
		}
	}
	return said
}

// tooSlow says whether a line is about a call that took too long, or about a connection that
// its process has lost by that: in time, no connection is lost.
func tooSlow(line, said string) bool {
	const over = "context deadline exceeded"
	if strings.Contains(line, over) {
		return true
	}
	if !strings.Contains(line, "conn closed") && !strings.Contains(line, "closed network connection") {
		return false
	}
	name, _, several := strings.Cut(line, "|") // of up
	if !several {
		return strings.Contains(said, over)
	}
	for other := range strings.Lines(said) {
		if strings.Contains(other, over) && (strings.HasPrefix(other, name+"|") || strings.Contains(other, "| "+strings.TrimSpace(name)+":")) {
			return true
		}
	}
	return false
}

var timeOfDay = regexp.MustCompile(`\b\d\d:\d\d:\d\d\.\d{3} `)

// loggedBefore tells by its time of day whether a line was logged in the hours before
// a moment.
func loggedBefore(t *testing.T, line string, moment time.Time) bool {
	t.Helper()
	const layout = "15:04:05.000 "
	logged, err := time.Parse(layout, timeOfDay.FindString(line))
	if err != nil {
		t.Fatalf("no time of day in %q: %v", line, err)
	}
	wall, err := time.Parse(layout, moment.Format(layout))
	if err != nil {
		t.Fatal(err)
	}
	ago := wall.Sub(logged)
	return 0 < ago && ago < 12*time.Hour || ago < -12*time.Hour // it was yesterday
}

func TestLoggedBefore(t *testing.T) {
	t.Parallel()
	noon, midnight := time.Date(2024, 5, 6, 12, 0, 0, 0, time.Local), time.Date(2024, 5, 6, 0, 0, 0, 0, time.Local)
	for line, want := range map[string]struct{ noon, midnight bool }{
		"11:59:59.999 WRN a":             {noon: true, midnight: false},
		"12:00:00.000 WRN a":             {noon: false, midnight: false},
		"23:59:59.999 WRN a":             {noon: false, midnight: true},
		"streamer  | 01:00:00.000 ERR a": {noon: true, midnight: false},
	} {
		if got := loggedBefore(t, line, noon); got != want.noon {
			t.Errorf("%q is of before noon: %v", line, got)
		}
		if got := loggedBefore(t, line, midnight); got != want.midnight {
			t.Errorf("%q is of before midnight: %v", line, got)
		}
	}
}

func TestTooSlow(t *testing.T) {
	t.Parallel()
	const up = "streamer  | WRN conn closed\nup        | streamer: had to be killed: context deadline exceeded\nconsumer0 | WRN conn closed\n"
	for _, c := range []struct {
		line, said string
		want       bool
	}{
		{"streamer  | WRN conn closed\n", up, true},
		{"consumer0 | WRN conn closed\n", up, false},
		{"streamer  | WRN stuck\n", up, false},
		{"WRN conn closed\n", "WRN conn closed\n", false},
		{"WRN conn closed\n", "WRN read: context deadline exceeded\nWRN conn closed\n", true},
	} {
		if got := tooSlow(c.line, c.said); got != c.want {
			t.Errorf("%q in %q: %v", c.line, c.said, got)
		}
	}
}

// TestTerminatedUnderLoad ends each process while there is more to do than it
// can do.
func TestTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const backlog = 50_000
	s.stage(backlog)
	dir, port := t.TempDir(), freePort(t)
	api := start(t, s.straight, "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	acknowledged := filepath.Join(dir, "acknowledged")
	booking := start(t, nil, "simulator", fmt.Sprintf("--port=%d", port), "--rate=2000", "--acknowledged="+acknowledged)
	booking.says("Rides:")

	s.terminatedStreamerRecords()
	streamer := start(t, s.straight, "streamer")
	streamer.says("leading")
	leaders := s.epoch()
	consumer := start(t, s.straight, "consumer", "c")
	consumer.says("consumed")
	consumer.terminate()
	consumer = start(t, s.straight, "consumer", "c")
	consumer.says("consumed")

	if said := booking.terminate(); strings.Contains(said, "Response: ") || !strings.Contains(said, " 0 failed") {
		t.Errorf("after SIGTERM the simulator says\n%s", said)
	}
	f, err := os.Open(acknowledged)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	acks, err := rides.ReadAcknowledgements(f)
	if n, there := backlog+len(acks), s.rides(); err != nil || n > there {
		t.Errorf("%d rides are acknowledged, %v, and %d are there", n, err, there)
	}
	booked := s.bookUntilTheEnd(port)
	api.terminate()
	// Each request that the api had in hand has got its answer.
	if answered, there := booked(), s.count(`SELECT count(*) FROM rides WHERE distance = 2.5`); answered != there {
		t.Errorf("%d rides are confirmed, and %d are there", answered, there)
	}
	s.catchUp()
	said := streamer.terminate()
	if strings.Contains(said, "double send") && !strings.Contains(said, "streaming failed") && s.epoch() == leaders {
		t.Errorf("the streamer has sent twice:\n%s", said)
	}
	consumer.terminate()
	s.exact(s.rides())
}

// terminatedStreamerRecords ends a streamer that has more to do, which has recorded what
// it has published. Where the machine pauses meanwhile it may lack the time: another one
// may not.
func (s *site) terminatedStreamerRecords() {
	s.Helper()
	wrong := ""
	for range 3 {
		streamer := start(s.T, s.straight, "streamer")
		streamer.says("published")
		streamer.terminate()
		recorded := s.count(`SELECT published_offset FROM unilog.partitions`)
		head, err := s.log.Head(s.Context(), 0)
		if err != nil {
			s.Fatal(err)
		}
		if int(head.Offset) == recorded {
			return
		}
		wrong += fmt.Sprintf(" %d of %d", recorded, head.Offset)
	}
	s.Errorf("streamers have recorded, of what they have published,%s", wrong)
}

// bookUntilTheEnd has clients book rides until nobody listens any more. When the first
// have been confirmed, it returns what says how many have been in the end.
func (s *site) bookUntilTheEnd(port int) (booked func() int) {
	s.Helper()
	const clients = 64
	client := http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	var confirmed atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for {
				answer, err := client.PostForm(fmt.Sprintf("http://127.0.0.1:%d/rides", port), url.Values{"distance": {"2.5"}})
				if errors.Is(err, syscall.ECONNREFUSED) {
					return
				}
				if err != nil {
					continue
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
				if answer.StatusCode == http.StatusCreated {
					confirmed.Add(1)
				}
			}
		})
	}
	await.True(s, "rides to be confirmed", func() bool { return confirmed.Load() > clients })
	return func() int {
		all.Wait()
		client.CloseIdleConnections()
		return int(confirmed.Load())
	}
}

// TestTerminatedWithARideInHand lets the api hear of its end while a ride is to
// be booked, and books it when the api takes no more.
func TestTerminatedWithARideInHand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	api := start(t, s.faulty, "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	books, told := executing("INSERT INTO rides"), make(chan struct{})
	tell := sync.OnceFunc(func() { close(told) })
	s.postgres.CutAt(proxy.ToServer, func(chunk []byte) bool {
		if books(chunk) {
			tell()
			_ = api.cmd.Process.Signal(syscall.SIGTERM)
			for end := time.Now().Add(await.Patience); time.Now().Before(end); {
				conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
				if err != nil {
					break
				}
				_ = conn.Close()
			}
		}
		return false // nothing is cut
	})
	if err := s.confirmed(port, told); err != nil {
		t.Errorf("the client got no answer: %v", err)
	}
	if said := api.kill(0); !api.cmd.ProcessState.Success() {
		t.Errorf("it ended with %v:\n%s", api.cmd.ProcessState, said)
	}
}

// TestUpTerminatedUnderLoad ends the whole system while rides are booked.
func TestUpTerminatedUnderLoad(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // root's Postgres has to pass
		t.Fatal(err)
	}
	args := []string{"up", "--data-dir", filepath.Join(dir, "data"), fmt.Sprintf("--port=%d", freePort(t)), "--rate=500", "--no-failures"}
	up := start(t, nil, args...)
	for _, words := range [][]string{
		{"simulator", "Rides:"}, {"streamer", "published"}, {"consumer0", "consumed"}, {"consumer1", "consumed"},
	} {
		up.says(words...)
	}
	said := up.terminate()
	if !strings.Contains(said, "stopping simulator, api, streamer") || strings.Contains(said, " died ") {
		t.Errorf("up says\n%s", said)
	}
	again := command(await.Context(t, "up to end"), t, nil, append(args, "--for=1s")...)
	again.Cancel = func() error { return again.Process.Signal(syscall.SIGTERM) }
	if out, err := again.CombinedOutput(); err != nil || !strings.Contains(string(out), "the audit holds") {
		t.Errorf("up again: %v\n%s", err, out)
	}
}
