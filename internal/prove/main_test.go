package main

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEachPromiseCanBeProved sees that each promise of the document has a mechanism here,
// with a test that the document names there, and a command that shows it.
func TestEachPromiseCanBeProved(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	_, promised, _ := strings.Cut(string(text), "\n## What is promised\n")
	promised, _, _ = strings.Cut(promised, "\n## ")
	sections := map[string]string{}
	for _, section := range strings.Split(promised, "\n### ")[1:] {
		heading, body, _ := strings.Cut(section, "\n")
		sections[heading] = body
		if !regexp.MustCompile("(?m)^See it: `").MatchString(body) {
			t.Errorf("no command shows that %s", heading)
		}
	}
	proved := map[string]bool{}
	for _, m := range mechanisms {
		proved[m.Promise] = true
		switch body, ok := sections[m.Promise]; {
		case !ok:
			t.Errorf("%q is not promised", m.Promise)
		case !strings.Contains(body, "`"+m.Test+"`"):
			t.Errorf("%q does not name %s", m.Promise, m.Test)
		}
		source, err := os.ReadFile("../../" + m.File)
		if n := bytes.Count(source, []byte(m.Old)); err != nil || n != 1 || m.Old == m.New {
			t.Errorf("%s has %d times, and not once, what is to be replaced there (%v): %q", m.File, n, err, m.Old)
		}
	}
	for heading := range sections {
		if !proved[heading] {
			t.Errorf("nothing proves that %s", heading)
		}
	}
}
