package up

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestForeignDirectory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	thesis := filepath.Join(dir, "postgres")
	if err := os.WriteFile(thesis, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := fakeServers(t)
	cfg.DataDir, cfg.Fresh = dir, true
	refused(t, cfg, "not ours")
	if _, err := os.Stat(thesis); err != nil {
		t.Error(err)
	}
}

func TestFresh(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "new", "data")
	dir, err := openDataDir(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(path, "redis", "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	own := filepath.Join(path, "notes")
	if err := os.WriteFile(own, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := dir.writeEnv(nil); err != nil {
		t.Fatal(err)
	}
	if err := dir.clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	dir.close()
	for _, gone := range []string{"redis", "env"} {
		if _, err := os.Stat(filepath.Join(path, gone)); err == nil {
			t.Errorf("%s is left", gone)
		}
	}
	if _, err := os.Stat(own); err != nil {
		t.Errorf("removed what is not ours: %v", err)
	}
	// What is left is still a data directory.
	dir, err = openDataDir(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	dir.close()
}

func TestSecondRefused(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	dir, err := openDataDir(t.Context(), cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	refused(t, cfg, "already")
}

// refused tells whether Run fails with one line that contains want, having
// started nothing.
func refused(t *testing.T, cfg Config, want string) {
	t.Helper()
	cfg.Prepare = func(context.Context, string, string) error {
		t.Error("it has begun")
		return nil
	}
	err := Run(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
}

func TestEnvFile(t *testing.T) {
	t.Parallel()
	dir, err := openDataDir(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.close()
	vars := []string{"A=postgres://postgres@:5432/rides?host=/a/b", `B=it's "$HOME" & \more`, "C="}
	if _, err := dir.writeEnv([]string{"A=old"}); err != nil {
		t.Fatal(err)
	}
	path, err := dir.writeEnv(vars)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("sh", "-c", `. "$1"; printf 'A=%s\nB=%s\nC=%s' "$A" "$B" "$C"`, "sh", path).Output()
	if err != nil || string(out) != strings.Join(vars, "\n") {
		t.Errorf("got %s, %v", out, err)
	}
	text, err := os.ReadFile(path)
	if first, _, _ := strings.Cut(string(text), "\n"); first != vars[0] || err != nil {
		t.Errorf("got %s, %v", text, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir.path, "env-*")); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}
