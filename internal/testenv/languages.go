package testenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Languages are the programs that run the examples in other languages.
type Languages struct {
	// Python is an interpreter that has the examples' packages, and Node the program.
	Python, Node string
	// Modules is the directory node_modules with those of the examples.
	Modules string
}

// NeedLanguages returns them, as `make test-languages` has set them up. Without them the
// test is skipped, or fails under CI.
func NeedLanguages(t testing.TB) Languages {
	t.Helper()
	inSuite(t, "Languages")
	cache, err := os.UserCacheDir()
	if dir := os.Getenv("XDG_CACHE_HOME"); dir != "" {
		cache, err = dir, nil
	} else if home, homeErr := os.UserHomeDir(); homeErr == nil {
		cache, err = filepath.Join(home, ".cache"), nil // where the script puts them on macOS, too
	}
	dir := filepath.Join(cache, "unilog", "languages")
	l := Languages{Python: filepath.Join(dir, "python", "bin", "python"), Modules: filepath.Join(dir, "node", "node_modules")}
	var lookErr, pyErr, nodeErr error
	l.Node, lookErr = exec.LookPath("node")
	_, pyErr = os.Stat(l.Python)
	_, nodeErr = os.Stat(l.Modules)
	err = errors.Join(err, lookErr, pyErr, nodeErr)
	if err != nil && !inCI() {
		t.Skip("run make test-languages, which sets up what is missing: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}
