// Command prove takes away, one after the other, what each promise of docs/guarantees.md
// rests on, and sees that the test which the document names for it fails then. The code
// stays as it is: the compiler is given other text for one file.
//
// Arguments are parts of promises' names, to prove only those.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// A test that takes longer waits for what no longer comes.
const timeout = "2m"

func main() {
	failed := false
	for _, m := range mechanisms {
		if !chosen(m.Promise, os.Args[1:]) {
			continue
		}
		fmt.Printf("%s\n    without  %s\n", m.Promise, m.Without)
		said, err := m.prove()
		if err != nil {
			failed = true
			said = "NOT PROVED: " + err.Error()
		}
		fmt.Printf("    %s  %s\n", m.Test, said)
	}
	if failed {
		os.Exit(1)
	}
}

func chosen(promise string, parts []string) bool {
	for _, part := range parts {
		if strings.Contains(strings.ToLower(promise), strings.ToLower(part)) {
			return true
		}
	}
	return len(parts) == 0
}

// prove runs the test with the mechanism, and without it, and returns what it said then.
func (m mechanism) prove() (said string, err error) {
	dir, err := packageOf(m.Test)
	if err != nil {
		return "", err
	}
	overlay, remove, err := m.overlay()
	if err != nil {
		return "", err
	}
	defer remove()
	if output, err := test(m.Test, dir); err != nil {
		return "", fmt.Errorf("it fails as the code is: %s", why(output))
	}
	output, err := test(m.Test, dir, "-overlay", overlay)
	switch {
	case err == nil:
		return "", fmt.Errorf("it stays green")
	case !bytes.Contains(output, []byte("--- FAIL: "+m.Test)) && !bytes.Contains(output, []byte("panic: test timed out")):
		return "", fmt.Errorf("it does not run: %s", bytes.TrimSpace(output))
	}
	return "is red: " + why(output), nil
}

// overlay writes what the compiler is to read instead of the file.
func (m mechanism) overlay() (path string, remove func(), err error) {
	source, err := os.ReadFile(m.File)
	if err != nil {
		return "", nil, err
	}
	if n := bytes.Count(source, []byte(m.Old)); n != 1 {
		return "", nil, fmt.Errorf("%s has %d times %q, and not once", m.File, n, m.Old)
	}
	dir, err := os.MkdirTemp("", "unilog-prove-")
	if err != nil {
		return "", nil, err
	}
	file, err := filepath.Abs(m.File)
	if err != nil {
		return "", nil, err
	}
	without := filepath.Join(dir, filepath.Base(m.File))
	list, err := json.Marshal(map[string]map[string]string{"Replace": {file: without}})
	if err != nil {
		return "", nil, err
	}
	path = filepath.Join(dir, "overlay.json")
	for name, text := range map[string][]byte{without: bytes.Replace(source, []byte(m.Old), []byte(m.New), 1), path: list} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			return "", nil, err
		}
	}
	return path, func() { _ = os.RemoveAll(dir) }, nil
}

// packageOf returns the folder of the test.
func packageOf(test string) (dir string, err error) {
	err = filepath.WalkDir(".", func(path string, _ os.DirEntry, err error) error {
		if err != nil || dir != "" || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if bytes.Contains(source, []byte("\nfunc "+test+"(")) {
			dir = "./" + filepath.Dir(path)
		}
		return err
	})
	if err == nil && dir == "" {
		err = fmt.Errorf("there is no test %s", test)
	}
	return dir, err
}

func test(name, dir string, flags ...string) ([]byte, error) {
	args := append([]string{"test", "-count=1", "-timeout=" + timeout, "-run=^" + name + "$"}, append(flags, dir)...)
	return exec.Command("go", args...).CombinedOutput()
}

// why returns what a test complained of first.
func why(output []byte) string {
	complaint := regexp.MustCompile(`(?m)^ +\w+_test\.go:\d+: (.*)$|^ +\w+\.go:\d+: (.*)$|^panic: (test timed out.*)$`)
	m := complaint.FindSubmatch(output)
	if m == nil {
		return string(bytes.TrimSpace(output))
	}
	text := string(bytes.Join(m[1:], nil))
	if most := 150; len([]rune(text)) > most {
		text = string([]rune(text)[:most]) + "…"
	}
	return text
}
