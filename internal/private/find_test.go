package private

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestMissing(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		dir := tempDir(t)
		nowhere := finder{path: dir, globs: []string{}}
		_, err := start(t.Context(), Options{Dir: filepath.Join(dir, "s"), find: nowhere})
		if _, ok := err.(*MissingError); !ok {
			t.Fatalf("got %v", err)
		}
		oneLine(t, err)
		if e := new(MissingError); !errors.As(CheckRedis(Options{find: nowhere}), &e) {
			t.Error("CheckRedis finds nothing")
		}
	})
}

func TestOtherVersion(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	if err := os.Mkdir(filepath.Join(dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "data", "PG_VERSION"), "9\n", 0o600)
	_, err := StartPostgres(t.Context(), Options{Dir: dir})
	if e, ok := err.(*VersionError); !ok || e.Made != "9" || len(e.Installed) == 0 {
		t.Fatalf("got %v", err)
	}
	oneLine(t, err)
}

// Of several versions, the one that made the directory is taken, else the
// PATH's, else the highest.
func TestVersions(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	for _, v := range []string{"9", "14", "17"} {
		bin := filepath.Join(dir, v, "bin")
		if err := os.MkdirAll(bin, 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(bin, "postgres"), "#!/bin/sh\necho 'postgres (PostgreSQL) "+v+".3 (Debian)'\n", 0o755)
		write(t, filepath.Join(bin, "initdb"), "#!/bin/sh\n", 0o755)
	}
	bare := finder{path: "/nonexistent", globs: []string{filepath.Join(dir, "*", "bin")}}
	onPath := bare
	onPath.path = filepath.Join(dir, "14", "bin")
	for _, c := range []struct {
		find       finder
		made, want string
	}{
		{bare, "", "17"},
		{bare, "9", "9"},
		{bare, "14", "14"},
		{onPath, "", "14"},
		{onPath, "17", "17"},
	} {
		got, err := c.find.postgres(t.Context(), c.made, dir)
		if want := filepath.Join(dir, c.want, "bin"); got != want || err != nil {
			t.Errorf("made by %q: got %s, %v, want %s", c.made, got, err, want)
		}
	}
	_, err := bare.postgres(t.Context(), "16", dir)
	if e := new(VersionError); !errors.As(err, &e) || len(e.Installed) != 3 || e.Installed[0] != "17" {
		t.Errorf("got %v", err)
	}
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
