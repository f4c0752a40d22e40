package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// terminate ends the process as a supervisor does, and returns what it had still to
// say: no warning and no error since then. One of before, as of a server that a busy
// machine's answers too late, may be among it.
func (p *process) terminate() string {
	p.Helper()
	at := time.Now().Truncate(time.Millisecond) // as exact as a line's time
	said := p.stop()
	for line := range strings.Lines(said) {
		alarms := strings.Contains(line, " WRN ") || strings.Contains(line, " ERR ")
		if alarms && !loggedBefore(p.T, line, at) || strings.Contains(line, "panic") {
			p.Errorf("after SIGTERM at %v it says\n%s", at, said)
			break
		}
	}
	return said
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
	simulator := func(file string) *process {
		p := start(t, nil, "simulator", fmt.Sprintf("--port=%d", port), "--rate=2000", "--acknowledged="+filepath.Join(dir, file))
		p.says("Rides:")
		return p
	}
	acknowledged := func(file string) int {
		f, err := os.Open(filepath.Join(dir, file))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		acks, err := rides.ReadAcknowledgements(f)
		if err != nil {
			t.Fatal(err)
		}
		return len(acks)
	}
	booking := simulator("first")

	streamer := start(t, s.straight, "streamer")
	streamer.says("published")
	streamer.terminate()
	var recorded int64
	if err := s.pool.QueryRow(t.Context(), `SELECT published_offset FROM unilog.partitions`).Scan(&recorded); err != nil {
		t.Fatal(err)
	}
	if head, err := s.log.Head(t.Context(), 0); err != nil || head.Offset != recorded {
		t.Errorf("the streamer has recorded %d of what it has published, up to %d (%v)", recorded, head.Offset, err)
	}
	streamer = start(t, s.straight, "streamer")
	streamer.says("leading")
	consumer := start(t, s.straight, "consumer", "c")
	consumer.says("consumed")
	consumer.terminate()
	consumer = start(t, s.straight, "consumer", "c")
	consumer.says("consumed")

	if said := booking.terminate(); strings.Contains(said, "Response: ") || !strings.Contains(said, " 0 failed") {
		t.Errorf("after SIGTERM the simulator says\n%s", said)
	}
	before := s.rides()
	if n := backlog + acknowledged("first"); n > before {
		t.Errorf("%d rides are acknowledged, and %d are there", n, before)
	}
	booking = simulator("second")
	api.terminate()
	booking.kill(syscall.SIGTERM) // it has failed to book more
	// Each request that the api had in hand has got its answer.
	if n := before + acknowledged("second"); n != s.rides() {
		t.Errorf("%d rides are acknowledged, and %d are there", n, s.rides())
	}
	s.catchUp()
	if said := streamer.terminate(); strings.Contains(said, "double send") {
		t.Errorf("the streamer has sent twice:\n%s", said)
	}
	consumer.terminate()
	s.exact(s.rides())
}

// TestTerminatedWithARideInHand lets the api hear of its end while a ride is to
// be booked, and books it when the api takes no more.
func TestTerminatedWithARideInHand(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	port := freePort(t)
	api := start(t, s.faulty, "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	books := executing("INSERT INTO rides")
	s.postgres.CutAt(proxy.ToServer, func(chunk []byte) bool {
		if books(chunk) {
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
	if err := s.book(port); err != nil {
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
