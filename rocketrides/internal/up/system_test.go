package up

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// TestDuring kills a process, ends the writers and then the run.
func TestDuring(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	notes := filepath.Join(t.TempDir(), "notes")
	prepared := ""
	cfg.Prepare = func(_ context.Context, databaseURL, redisURL string) error {
		prepared = databaseURL + " " + redisURL
		return nil
	}
	writer := sh("w", `trap 'echo $0 >>"$1"; exit 0' TERM; echo "runs on $WAY"; while :; do sleep 0.02; done`, notes)
	writer.Env = func() []string { return []string{"WAY=" + prepared} }
	cfg.Writers = [][]Process{{writer}}
	cfg.Readers = [][]Process{{sh("r", patient, notes)}}
	began, enough := make(chan *System, 1), make(chan error, 1)
	cfg.During = func(ctx context.Context, system *System) error {
		began <- system
		select {
		case err := <-enough:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r := start(t, cfg)
	system := await.Receive(t, "the system", began, r.String)
	r.await("w  | runs on " + cfg.DatabaseURL + " " + cfg.RedisURL + "\n")
	r.await("r  | runs\n")
	if err := system.Signal("r", syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await("up | r died (signal: killed), starting it again in 100ms\n")
	if err := system.Signal("x", syscall.SIGKILL); err == nil {
		t.Error("nothing is called x")
	}
	system.StopWriters()
	if text, err := os.ReadFile(notes); err != nil || string(text) != "w\n" {
		t.Errorf("when the writers have stopped the notes are %q, %v", text, err)
	}
	want := errors.New("enough")
	enough <- want
	if err := r.end(); !errors.Is(err, want) {
		t.Errorf("the run ends with %v", err)
	}
}

// TestServersOnly sees that nothing is offered that is not there.
func TestServersOnly(t *testing.T) {
	t.Parallel()
	r := start(t, fakeServers(t))
	r.await("look:")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(r.String(), "api:") {
		t.Errorf("it says\n%s", r)
	}
}

// TestRemove removes what up has made, and nothing else.
func TestRemove(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	r := start(t, cfg)
	r.await("look:")
	if err := Remove(t.Context(), cfg.DataDir); err == nil {
		t.Error("removed while it is in use")
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if err := Remove(t.Context(), cfg.DataDir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(cfg.DataDir); !os.IsNotExist(err) {
		t.Errorf("it is still there: %v", err)
	}
}
