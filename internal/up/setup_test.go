package up

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

// TestMain doubles as the supervisor that TestKilled kills.
func TestMain(m *testing.M) {
	if fifo := os.Getenv("UP_TEST_FIFO"); fifo != "" {
		err := Run(context.Background(), Config{
			DataDir: os.Getenv("UP_TEST_DIR"), DatabaseURL: "postgres://x/y", RedisURL: "redis://x", Port: freePort(),
			Prepare: func(context.Context, string, string) error { return nil },
			Writers: [][]Process{{sh("p", `exec 9>"$UP_TEST_FIFO"; echo up >&9; exec sleep 1000`)}},
			Output:  os.Stdout,
		})
		fmt.Println(err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func sh(name, script string, args ...string) Process {
	return Process{Name: name, Args: append([]string{"sh", "-c", script, name}, args...)}
}

// fakeServers is a configuration whose servers are nobody's business.
func fakeServers(t *testing.T) Config {
	t.Helper()
	return Config{
		DataDir:     t.TempDir(),
		DatabaseURL: "postgres://user:secret@localhost/rides",
		RedisURL:    "redis://localhost",
		Port:        freePort(),
		Vars:        []string{"STREAM_NAME=s"},
		Prepare:     func(context.Context, string, string) error { return nil },
		Output:      new(screen),
	}
}

func freePort() int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// running is a Run in the background.
type running struct {
	*screen
	cancel context.CancelFunc
	result chan error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{screen: new(screen), cancel: cancel, result: make(chan error, 1)}
	cfg.Output = r.screen
	go func() { r.result <- Run(ctx, cfg) }()
	t.Cleanup(func() {
		cancel()
		if t.Failed() {
			t.Logf("output:\n%s", r.screen)
		}
	})
	return r
}

// stop is Ctrl-C.
func (r *running) stop() error {
	r.cancel()
	return <-r.result
}

// screen is where output goes, and can be waited on.
type screen struct {
	mu     sync.Mutex
	text   bytes.Buffer
	awaits []await
}

type await struct {
	text  string
	shown chan struct{}
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	s.check()
	return len(p), nil
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func (s *screen) check() {
	var rest []await
	for _, a := range s.awaits {
		if strings.Contains(s.text.String(), a.text) {
			close(a.shown)
		} else {
			rest = append(rest, a)
		}
	}
	s.awaits = rest
}

// await waits until text is on the screen; the test's own timeout ends a
// hopeless wait.
func (r *running) await(t *testing.T, text string) {
	t.Helper()
	shown := make(chan struct{})
	r.mu.Lock()
	r.awaits = append(r.awaits, await{text, shown})
	r.check()
	r.mu.Unlock()
	select {
	case <-shown:
	case err := <-r.result:
		r.result <- err
		t.Fatalf("ended before it said %q: %v", text, err)
	}
}
