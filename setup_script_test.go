package unilog_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSetupSaysWhatToDo runs scripts/setup.sh where nothing but a few programs is
// installed, as a user who is not root.
func TestSetupSaysWhatToDo(t *testing.T) {
	t.Parallel()
	const packages = "default-jre-headless maven"
	installs := `for p in java mvn; do printf '#!/bin/sh\n' >"$BIN/$p"; chmod 755 "$BIN/$p"; done`
	for name, c := range map[string]struct {
		needs, sudo, git, env string
		want                  string
		fails                 bool
	}{
		"no sudo": {
			want: "setup: not found: Java, Maven: as root, run: apt-get update && apt-get install " + packages, fails: true,
		},
		"nobody to ask": {
			sudo: "exit 1", fails: true,
			want: "setup: not found: Java, Maven: set YES=1 to install, or run: sudo apt-get update && sudo apt-get install " + packages,
		},
		"YES": {
			sudo: installs, env: "YES=1",
			want: "Installing " + packages + " with apt-get; this may take a minute or two.",
		},
		"may not": {
			sudo: "echo rider is not in the sudoers file >&2; exit 1", env: "YES=1", fails: true,
			want: "Installing " + packages + " with apt-get; this may take a minute or two.\n" +
				"rider is not in the sudoers file\n" +
				"setup: that failed: sudo apt-get update && sudo apt-get install " + packages,
		},
		"installed, but of no use": {
			sudo: "exit 0", env: "YES=1", fails: true,
			want: "Installing " + packages + " with apt-get; this may take a minute or two.\n" +
				"setup: installed " + packages + ", but still not found: Java, Maven",
		},
		"an old Go": {
			needs: "go", fails: true,
			want: "setup: Go 1.26 or newer is needed: get it from https://go.dev/dl, and put it first in PATH (BIN/go is go1.19.8)",
		},
		"a checkout of another user": {
			needs: "go", env: "GO=go1.26.0", git: "echo fatal: detected dubious ownership in repository >&2; exit 128", fails: true,
			want: "setup: this checkout is another user's: go on as that user, or run: git config --global --add safe.directory 'HERE'",
		},
		"a Go that is new enough": {needs: "go", env: "GO=go1.26.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bin := barePath(t, map[string]string{
				"id": "echo 4711", "apt-get": "exit 1", "sudo": c.sudo,
				"go": `echo "${GO:-go1.19.8}"`, "git": cmp.Or(c.git, "exit 0"),
			})
			cmd := exec.Command("sh", "scripts/setup.sh", cmp.Or(c.needs, "model"))
			cmd.Env = []string{"PATH=" + bin, "BIN=" + bin, c.env}
			out, err := cmd.CombinedOutput()
			here, _ := os.Getwd()
			want := strings.NewReplacer("BIN", bin, "HERE", here).Replace(c.want)
			if got := strings.TrimSpace(string(out)); got != want || (err != nil) != c.fails {
				t.Errorf("it said (%v)\n%s\nwanted\n%s", err, got, want)
			}
		})
	}
}

// barePath returns a directory for PATH with what every system has and the scripts
// given, by name. One without a text is left out.
func barePath(t *testing.T, scripts map[string]string) string {
	t.Helper()
	bin := t.TempDir()
	for _, name := range []string{"sh", "dirname", "sed", "grep", "tr", "ls", "cat", "uname", "mktemp", "rm", "tail", "chmod"} {
		path, err := exec.LookPath(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range scripts {
		if text == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}
