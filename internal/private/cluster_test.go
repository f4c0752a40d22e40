package private

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// A process id that the last server left behind may be anybody's by now.
func TestStalePid(t *testing.T) {
	t.Parallel()
	s := run(t, StartPostgres, Options{Dir: tempDir(t)})
	add(t, s)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	path := filepath.Join(s.Options().Dir, "data", "postmaster.pid")
	write(t, path, fmt.Sprintf("%d\n", os.Getppid()), 0o600)
	if n := add(t, run(t, StartPostgres, s.Options())); n != 2 {
		t.Errorf("n = %d", n)
	}
}

// Somebody's files are neither used nor removed.
func TestForeignData(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	thesis := filepath.Join(dir, "data", "thesis")
	write(t, thesis, "x", 0o600)
	_, err := StartPostgres(t.Context(), Options{Dir: dir})
	if err == nil {
		t.Fatal("started")
	}
	oneLine(t, err)
	if _, err := os.Stat(thesis); err != nil {
		t.Error(err)
	}
}

func TestReason(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"LOG: a\n2026 FATAL:  b\nLOG: c\n": "FATAL:  b",
		"a\nb\n\n":                         "b",
		"":                                 "it said nothing",
	} {
		if got := reason(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
