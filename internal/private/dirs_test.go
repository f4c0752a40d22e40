package private

import (
	"os"
	"path/filepath"
	"testing"
)

// In a directory that nobody else can pass, root's Postgres keeps its data
// elsewhere; nothing of the person's own directories changes.
func TestUnreachableDirectory(t *testing.T) {
	t.Parallel()
	home := tempDir(t)
	if err := os.Chmod(home, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(home, "project")
	link := filepath.Join(dir, "data")
	t.Cleanup(func() {
		for _, d := range []string{dir, filepath.Join(home, "moved")} {
			_ = os.RemoveAll(filepath.Join(farDir, hash(d)))
		}
	})
	start := func(dir string, want int64) {
		t.Helper()
		s := run(t, StartPostgres, Options{Dir: dir})
		if n := add(t, s); n != want {
			t.Errorf("n = %d, want %d", n, want)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	start(dir, 1)
	start(dir, 2)
	if info, err := os.Lstat(link); err != nil || info.IsDir() == (os.Geteuid() == 0) {
		t.Errorf("data: %v, %v", info.Mode(), err)
	}
	if info, err := os.Stat(home); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("home: %v, %v", info.Mode(), err)
	}

	// Data follow a directory that is moved.
	moved := filepath.Join(home, "moved")
	if err := os.Rename(dir, moved); err != nil {
		t.Fatal(err)
	}
	start(moved, 3)
	start(dir, 1)
	start(moved, 4)

	// Without the link, what is left of them is stale.
	if err := os.RemoveAll(moved); err != nil {
		t.Fatal(err)
	}
	start(moved, 1)

	if err := Remove(t.Context(), moved); err != nil {
		t.Error(err)
	}
	for _, left := range []string{moved, filepath.Join(farDir, hash(moved))} {
		if _, err := os.Lstat(left); err == nil {
			t.Errorf("%s is left behind", left)
		}
	}
}

func TestClaimRefuses(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := claim(dir, nil); err == nil {
		t.Error("others can enter, and it is taken")
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := claim(dir, nil); err != nil {
		t.Error(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if err := claim(link, nil); err == nil {
		t.Error("a link is taken")
	}
}
