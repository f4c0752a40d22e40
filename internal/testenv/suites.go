package testenv

import (
	"slices"
	"strings"
	"testing"
)

// inSuite ends a test that uses what only tests with one of these words in their names
// may use: `make test` runs those suites apart, by these words. Benchmarks are no part
// of any suite.
func inSuite(t testing.TB, words ...string) {
	t.Helper()
	top, _, _ := strings.Cut(t.Name(), "/")
	isNamed := slices.ContainsFunc(words, func(word string) bool { return strings.Contains(top, word) })
	if !isNamed && !strings.HasPrefix(top, "Benchmark") {
		t.Fatalf("its name must have %s in it, by which `make test` runs it apart", strings.Join(words, " or "))
	}
}
