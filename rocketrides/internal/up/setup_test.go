package up

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/freeport"
)

// TestMain doubles as the supervisor that TestKilled kills.
func TestMain(m *testing.M) {
	if fifo := os.Getenv("UP_TEST_FIFO"); fifo != "" {
		err := Run(context.Background(), Config{
			DataDir: os.Getenv("UP_TEST_DIR"), DatabaseURL: "postgres://x/y", RedisURL: "redis://x", Port: freeport.Next(),
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
		Port:        freeport.Next(),
		Vars:        []string{"STREAM_NAME=s"},
		Prepare:     func(context.Context, string, string) error { return nil },
		Output:      new(screen),
		stopFor:     await.Patience,
	}
}

// running is a Run in the background.
type running struct {
	*testing.T
	*screen
	cancel context.CancelFunc
	over   chan struct{} // closed when it has ended, with err
	err    error
}

func start(t *testing.T, cfg Config) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{T: t, screen: new(screen), cancel: cancel, over: make(chan struct{})}
	cfg.Output = r.screen
	go func() {
		defer close(r.over)
		r.err = Run(ctx, cfg)
	}()
	t.Cleanup(func() {
		_ = r.stop()
		if t.Failed() {
			t.Logf("output:\n%s", r.screen)
		}
	})
	return r
}

// stop is Ctrl-C.
func (r *running) stop() error {
	r.Helper()
	r.cancel()
	return r.end()
}

// end waits for the end of the run and returns its error.
func (r *running) end() error {
	r.Helper()
	await.Receive(r, "the end of the run", r.over, r.String)
	return r.err
}

// await waits until text is on the screen.
func (r *running) await(text string) {
	r.Helper()
	await.That(r, fmt.Sprintf("%q on the screen", text), func() string {
		var err error
		over := false
		select {
		case <-r.over:
			over, err = true, r.err
		default:
		}
		shown := r.String()
		switch {
		case strings.Contains(shown, text):
			return ""
		case over:
			r.Fatalf("ended before it said %q: %v", text, err)
		}
		return "it shows\n" + shown
	})
}

// screen is where output goes. It is safe for concurrent use.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
