package deliverer_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/world"
)

func openFile(t *testing.T, path string) *deliverer.FileCheckpoints {
	t.Helper()
	c, err := deliverer.OpenFileCheckpoints(path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestFileCheckpointsSurviveACrash(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "checkpoints")
	key := deliverer.CheckpointKey{Name: "hook", LogID: "mine"}
	first := openFile(t, path)
	if err := first.Save(t.Context(), key, unilog.Cursor{}, unilog.Cursor{Offset: 7}); err != nil {
		t.Fatal(err)
	}
	if _, err := deliverer.OpenFileCheckpoints(path); err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "another instance") {
		t.Errorf("to a second instance it says %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(t.Context(), key, unilog.Cursor{Offset: 7}, unilog.Cursor{Offset: 8}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed, it saves: %v", err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What a crash in the middle of writing leaves behind.
	if err := os.WriteFile(path+".tmp", whole[:len(whole)/2], 0o600); err != nil {
		t.Fatal(err)
	}
	second := openFile(t, path)
	if at, err := second.Load(t.Context(), key); err != nil || at.Offset != 7 {
		t.Errorf("after a crash it is at %+v, %v", at, err)
	}
	// The old file is replaced, not written over: under another name it is whole.
	if err := os.Link(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := second.Save(t.Context(), key, unilog.Cursor{Offset: 7}, unilog.Cursor{Offset: 9}); err != nil {
		t.Error(err)
	}
	if old, err := os.ReadFile(path + ".old"); err != nil || string(old) != string(whole) {
		t.Errorf("a save has changed the old file to %q, %v", old, err)
	}
	if _, err := second.Load(t.Context(), deliverer.CheckpointKey{Name: "other", LogID: "mine"}); err == nil || !strings.Contains(err.Error(), "those of hook") {
		t.Errorf("to another name it says %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}

	whole, err = os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"cut short":    string(whole[:len(whole)-3]),
		"empty":        "",
		"one bit gone": strings.Replace(string(whole), `"offset":9`, `"offset":8`, 1),
		"one more":     string(whole) + "\n",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := deliverer.OpenFileCheckpoints(path); err == nil || !strings.Contains(err.Error(), path+" are damaged") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestDelivererSeesThatItsFileCannotBeWritten takes the directory away.
func TestDelivererSeesThatItsFileCannotBeWritten(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	dir := filepath.Join(t.TempDir(), "state")
	w.Must(os.Mkdir(dir, 0o700))
	file := openFile(t, filepath.Join(dir, "checkpoints"))
	defer file.Close()
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.Checkpoints = file })
	w.Must(os.Rename(dir, dir+"-away"))
	if n, err := d.RunOnce(w.Ctx); n != 0 || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without its directory: %d, %v", n, err)
	}
	w.Must(os.Rename(dir+"-away", dir))
	w.Repeat(d.RunOnce)
	outside.Want(w, 1, 1, 2, 3)
}
