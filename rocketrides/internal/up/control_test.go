package up

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// controlled adds controls to a configuration.
func controlled(cfg Config) Config {
	cfg.Controls = &Controls{
		Settings:    Settings{Rate: 10, Failures: 0.1},
		NewConsumer: func(name string) Process { return consumer(name) },
		Forget:      func(context.Context, string) error { return nil },
		EmptyLog:    func(context.Context) error { return nil },
		Write:       func(context.Context) (string, error) { return "ride 7 is booked", nil },
		Booked:      func(context.Context) (int64, error) { return 7, nil },
		Timeout:     await.Patience,
	}
	return cfg
}

func consumer(name string) Process {
	p := sh(name, `trap 'exit 0' TERM; echo runs; while :; do sleep 0.02; done`)
	p.Kind = consumerKind
	return p
}

// client speaks to the socket at a path.
func client(path string) *http.Client {
	return &http.Client{Timeout: await.Patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
	}}
}

func socketOf(cfg Config) string { return filepath.Join(cfg.DataDir, "control", "socket") }

// act returns what an action is refused with, "" if it has been done.
func act(t *testing.T, cfg Config, action, target string, value float64) string {
	t.Helper()
	body, err := json.Marshal(Action{action, target, value})
	if err != nil {
		t.Fatal(err)
	}
	return post(t, cfg, string(body))
}

func post(t *testing.T, cfg Config, body string) string {
	t.Helper()
	var answer *http.Response
	await.That(t, "an answer", func() string {
		var err error
		answer, err = client(socketOf(cfg)).Post("http://up/actions", "application/json", strings.NewReader(body))
		if err != nil { // it came too late to be heard
			return err.Error()
		}
		return ""
	})
	defer answer.Body.Close()
	if answer.StatusCode == http.StatusNoContent {
		return ""
	}
	var refusal struct{ Error string }
	if err := json.NewDecoder(answer.Body).Decode(&refusal); err != nil || refusal.Error == "" || strings.Contains(refusal.Error, "\n") {
		t.Errorf("%s: status %d, error %q (%v)", body, answer.StatusCode, refusal.Error, err)
	}
	return fmt.Sprint(answer.StatusCode, " ", refusal.Error)
}

// now is what runs, as a new subscriber is told.
func now(t *testing.T, cfg Config) state {
	t.Helper()
	var first struct{ System state }
	await.That(t, "the state", func() string {
		answer, err := client(socketOf(cfg)).Get("http://up/events")
		if err == nil {
			defer answer.Body.Close()
			err = json.NewDecoder(answer.Body).Decode(&first)
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
	return first.System
}

// processOf is the state of one of what runs.
func processOf(t *testing.T, cfg Config, name string) processState {
	t.Helper()
	s := now(t, cfg)
	for _, p := range s.Processes {
		if p.Name == name {
			return p
		}
	}
	t.Fatalf("no %s in %+v", name, s)
	panic("unreachable")
}

func TestControlSocket(t *testing.T) {
	t.Parallel()
	cfg := controlled(fakeServers(t))
	cfg.Readers = [][]Process{{consumer("consumer0")}}
	r := start(t, cfg)
	r.await("consumer0 | runs\n")
	for path, want := range map[string]fs.FileMode{socketOf(cfg): 0o600, filepath.Dir(socketOf(cfg)): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Fatalf("%s is %v, %v", path, info, err)
		}
	}
	for body, want := range map[string]string{
		`{"action":"explode"}`:                            `409 there is no action "explode"`,
		`{"action":"kill"}`:                               `409 nothing is called "" here; there are: consumer0`,
		`{"action":"kill","target":"postgres"}`:           "409 postgres is not up's own",
		`{"action":"cut-redis"}`:                          "409 redis is not up's own",
		`{"action":"freeze","target":"postgres"}`:         "409 postgres cannot be frozen",
		`{"action":"thaw","target":"consumer0"}`:          "409 consumer0 is not frozen",
		`{"action":"remove-consumer","target":"x"}`:       `409 no consumer is called "x"`,
		`{"action":"remove-consumer"}`:                    `409 no consumer is called ""`,
		`{"action":"rate","value":5001}`:                  "409 the rate is 5001",
		`{"action":"rate"}`:                               "409 the rate is 0",
		`{"action":"failures","value":0.6}`:               "409 the share of failures is 0.6",
		`{"action":"kill","tarjet":"api"}`:                "400 the body must be",
		`{`:                                               "400 the body must be",
		`{"action":"` + strings.Repeat("x", 5<<10) + `"}`: "400 the body must be",
		`{"action":"empty-redis"}`:                        "",
		`{"action":"write"}`:                              "",
		`{"action":"rate","value":0.1}`:                   "",
		`{"action":"failures","value":0.5}`:               "",
	} {
		if got := post(t, cfg, body); got != want && (want == "" || !strings.HasPrefix(got, want)) {
			t.Errorf("%.50s: %q, want %q", body, got, want)
		}
	}
	if s := now(t, cfg); s.Rate != 0.1 || s.Failures != 0.5 {
		t.Errorf("the settings are %+v", s.Settings)
	}
	settings, err := ReadSettings(filepath.Join(cfg.DataDir, "settings.json"))
	if err != nil || settings != (Settings{0.1, 0.5}) {
		t.Errorf("in the file, the settings are %+v, %v", settings, err)
	}
	r.await("ride 7 is booked\n")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(socketOf(cfg)); err == nil {
		t.Error("the socket is left")
	}
}

// TestLongPath sees that the socket is elsewhere where its path would be too long.
func TestLongPath(t *testing.T) {
	t.Parallel()
	cfg := controlled(fakeServers(t))
	cfg.DataDir = filepath.Join(cfg.DataDir, strings.Repeat("x", 100))
	p := sh("p", `echo "at $ROCKETRIDES_CONTROL,"; exec sleep 1000`)
	p.Control = true
	other := sh("q", `echo "at $ROCKETRIDES_CONTROL,"; exec sleep 1000`)
	cfg.Writers = [][]Process{{p, other}}
	r := start(t, cfg)
	r.await("q  | at ,\n")
	r.await("p  | at /")
	_, rest, _ := strings.Cut(r.String(), "p  | at ")
	path, _, _ := strings.Cut(rest, ",")
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o700 || len(path) > maxSocketPath {
		t.Errorf("the socket is at %s: %v, %v", path, info, err)
	}
	await.That(t, "an answer", func() string {
		answer, err := client(path).Get("http://up/events")
		if err != nil {
			return err.Error()
		}
		answer.Body.Close()
		return ""
	})
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("its directory is left")
	}
}

// TestKill sees that a death is known to be on purpose, and the next one not.
func TestKill(t *testing.T) {
	t.Parallel()
	cfg := controlled(fakeServers(t))
	cfg.Writers = [][]Process{{sh("p", "echo runs; exec sleep 1000")}}
	r := start(t, cfg)
	r.await("p  | runs\n")
	first := processOf(t, cfg, "p")
	if refused := act(t, cfg, "freeze", "p", 0) + act(t, cfg, "kill", "p", 0); refused != "" {
		t.Fatal(refused)
	}
	r.await("up | p was killed on purpose, starting it again in 100ms\n")
	r.await("up | p is frozen\nup | p was killed on purpose, starting it again in 100ms\np  | runs\n")
	second := processOf(t, cfg, "p")
	if first.State != "running" || second.State != "running" || second.Pid == first.Pid || second.Restarts != first.Restarts+1 || second.Since < first.Since {
		t.Errorf("before %+v, after %+v", first, second)
	}
	if err := exec.Command("kill", "-9", strconv.Itoa(second.Pid)).Run(); err != nil {
		t.Fatal(err)
	}
	r.await("p died (signal: killed)")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	for _, words := range []string{"rides booked:         7\n", "crashes:              1, and 1 kills on purpose\n"} {
		if !strings.Contains(r.String(), words) {
			t.Errorf("it does not say %q", words)
		}
	}
}

// TestStopFrozen sees that a frozen process is frozen, and ends in order.
func TestStopFrozen(t *testing.T) {
	t.Parallel()
	cfg := controlled(fakeServers(t))
	notes := filepath.Join(t.TempDir(), "notes")
	cfg.Writers = [][]Process{{sh("p", patient, notes)}}
	r := start(t, cfg)
	r.await("p  | runs\n")
	if refused := act(t, cfg, "freeze", "p", 0); refused != "" {
		t.Fatal(refused)
	}
	frozen := processOf(t, cfg, "p")
	if frozen.State != "frozen" {
		t.Fatalf("its state is %+v", frozen)
	}
	await.That(t, "the kernel to stop it", func() string {
		stat, err := exec.Command("ps", "-o", "stat=", "-p", strconv.Itoa(frozen.Pid)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(stat), "T") {
			return ""
		}
		return "ps says " + string(stat)
	})
	if refused := act(t, cfg, "freeze", "p", 0); !strings.HasPrefix(refused, "409 p is frozen already") {
		t.Errorf("frozen twice: %q", refused)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if text, err := os.ReadFile(notes); string(text) != "p\n" || strings.Contains(r.String(), "had to be killed") {
		t.Errorf("it has noted %q, %v", text, err)
	}
}

// TestConsumers adds and removes them, and audits those that are left.
func TestConsumers(t *testing.T) {
	t.Parallel()
	cfg := controlled(fakeServers(t))
	var forgotten atomic.Value
	cfg.Controls.Forget = func(_ context.Context, name string) error {
		forgotten.Store(name)
		return errors.New("no database")
	}
	over := make(chan struct{})
	cfg.For, cfg.over = time.Hour, over
	cfg.Readers = [][]Process{{sh("streamer", "exec sleep 1000")}, {consumer("consumer0"), consumer("consumer1")}}
	cfg.Audit = sh("verify", `echo "audits $@"`)
	r := start(t, cfg)
	r.await("consumer1 | runs\n")
	if refused := act(t, cfg, "add-consumer", "", 0); refused != "" {
		t.Fatal(refused)
	}
	r.await("consumer2 | runs\n")
	if refused := act(t, cfg, "remove-consumer", "consumer1", 0); !strings.Contains(refused, "`rocketrides consumers forget consumer1` (no database)") {
		t.Errorf("not forgotten: %q", refused)
	}
	if forgotten.Load() != "consumer1" {
		t.Errorf("forgotten is %v", forgotten.Load())
	}
	close(over)
	if err := r.end(); err != nil {
		t.Error(err)
	}
	if !strings.Contains(r.String(), "audits consumer0 consumer2\n") || !strings.Contains(r.String(), "audit:                holds\n") {
		t.Errorf("it says\n%s", r)
	}
}
