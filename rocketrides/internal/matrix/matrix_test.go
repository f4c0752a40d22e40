package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestReadmeHasEveryVersion holds the README's table against the servers that are run.
func TestReadmeHasEveryVersion(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), tableBegins)
	rows, _, ended := strings.Cut(rest, tableEnds)
	if !ended {
		t.Fatal("the README has no marks where the table begins and ends")
	}
	lines := strings.Split(strings.TrimSpace(rows), "\n")
	if len(lines) != len(servers)+2 {
		t.Fatalf("it has %d lines for %d servers:\n%s", len(lines), len(servers), rows)
	}
	for i, s := range servers {
		line := lines[i+2]
		if !strings.HasPrefix(line, "| "+s.title()+" | "+s.version) && !strings.HasPrefix(line, "| "+s.title()+" | - |") || strings.Contains(line, "failed") {
			t.Errorf("%s has the line %q", s.name, line)
		}
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	names := func(chosen []server, _ error) (names []string) {
		for _, s := range chosen {
			names = append(names, s.name)
		}
		return names
	}
	if got := names(choose([]string{"valkey", "postgres-18"})); !slices.Equal(got, []string{"postgres-18", "valkey-8", "valkey-9"}) {
		t.Errorf("chose %v", got)
	}
	if got, err := choose(nil); len(got) != len(servers) || err != nil {
		t.Errorf("of none it chose %d of %d, %v", len(got), len(servers), err)
	}
	if _, err := choose([]string{"postgres-1"}); err == nil || !strings.Contains(err.Error(), "postgres-18") {
		t.Errorf("a name of none: %v", err)
	}
}

// TestCount reads what a test binary says: parts of a test count with it, and a test that
// was skipped as one that failed.
func TestCount(t *testing.T) {
	t.Parallel()
	passed, failures := count([]byte(`=== RUN   TestA
--- PASS: TestA (0.00s)
    --- PASS: TestA/part (0.00s)
--- FAIL: TestB (1.00s)
    --- FAIL: TestB/part (0.00s)
--- SKIP: TestC (0.00s)
FAIL
`))
	if passed != 1 || !slices.Equal(failures, []string{"TestB", "TestC (skipped)"}) {
		t.Errorf("%d passed, %q failed", passed, failures)
	}
}

func TestDownloadsAreWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	const sum = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae" // of foo
	s := &shop{cache: t.TempDir()}
	fetch := func(text string) (string, error) {
		return s.download(sum, func(dir string) error { return os.WriteFile(filepath.Join(dir, "file"), []byte(text), 0o600) })
	}
	if _, err := fetch("bar"); err == nil || !strings.Contains(err.Error(), "SHA-256") {
		t.Errorf("another file: %v", err)
	}
	path, err := fetch("foo")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := fetch("bar"); err != nil || again != path {
		t.Errorf("it was got again: %q, %v", again, err)
	}
	if err := os.WriteFile(path, []byte("bar"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch("foo"); err != nil || check(path, sum) != nil {
		t.Errorf("a damaged one stays: %v", err)
	}
}

// TestTableIsUpdated has one server run well and another one not: that keeps its line.
func TestTableIsUpdated(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "README.md")
	const kept = "| Redis 7.0 | 7.0.15 | 5 | 76 passed | kept | 84 |\n"
	if err := os.WriteFile(file, []byte("before\n"+tableBegins+"\n"+tableHead+kept+"\n"+tableEnds+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	well, ill := row{server: servers[0], found: "14.24", passed: 3}, row{server: servers[5], found: "7.0.16", problems: []string{"a test"}}
	if err := update(file, []row{ill, well}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + tableBegins + "\n" + tableHead + well.line() + kept + "\n" + tableEnds + "after\n"; string(text) != want {
		t.Errorf("the file is\n%s\nwant\n%s", text, want)
	}
}
