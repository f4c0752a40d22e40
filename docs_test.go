package unilog_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// documents returns the documents by their paths, but for the changelog.
func documents(t *testing.T) map[string]string {
	t.Helper()
	docs := map[string]string{}
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md", "deploy/*.md", "examples/*.md", "examples/*/*.md"} {
		paths, err := filepath.Glob(pattern)
		if err != nil || len(paths) == 0 {
			t.Fatalf("no documents at %s: %v", pattern, err)
		}
		for _, path := range paths {
			docs[path] = fileText(t, path)
		}
	}
	return docs
}

func fileText(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestDocsNameWhatIsThere sees that the tests, the files with their headings, the
// constants, and the targets of make that the documents name exist. What a document says
// is printed, some test compares: see package documents.
func TestDocsNameWhatIsThere(t *testing.T) {
	t.Parallel()
	var tests bytes.Buffer
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		tests.Write(source)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	testName := regexp.MustCompile("`((?:Test|Example|Fuzz)\\w*)`")
	link := regexp.MustCompile(`\]\(([^):#]*)(?:#([\w-]+))?\)`)
	target := regexp.MustCompile("(?m)(?:`|^    |^)make ([a-z-]+)")
	makefile := fileText(t, "Makefile")
	printed := regexp.MustCompile("<!-- printed: (.*) -->")
	constant := regexp.MustCompile("`(\\w+)` in \\[[^]]+\\]\\(([^)]+)\\)")
	for doc, text := range documents(t) {
		dir := filepath.Dir(doc)
		for _, m := range testName.FindAllStringSubmatch(text, -1) {
			if !bytes.Contains(tests.Bytes(), []byte("\nfunc "+m[1]+"(")) {
				t.Errorf("%s names %s, which is not there", doc, m[1])
			}
		}
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			path := filepath.Join(dir, m[1])
			if m[1] == "" {
				path = doc
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to what is not there: %v", doc, err)
			} else if m[2] != "" && !slices.Contains(anchors(fileText(t, path)), m[2]) {
				t.Errorf("%s links to %s, which has no heading #%s", doc, path, m[2])
			}
		}
		for _, m := range target.FindAllStringSubmatch(text, -1) {
			if !strings.Contains(makefile, "\n"+m[1]+":") {
				t.Errorf("%s names make %s, which is no target", doc, m[1])
			}
		}
		for _, m := range printed.FindAllStringSubmatch(text, -1) {
			if !bytes.Contains(tests.Bytes(), []byte(`"`+m[1]+`"`)) || !bytes.Contains(tests.Bytes(), []byte(`"`+doc+`"`)) {
				t.Errorf("no test compares with %s what %q prints", doc, m[1])
			}
		}
		for _, m := range constant.FindAllStringSubmatch(text, -1) {
			if path := filepath.Join(dir, m[2]); !regexp.MustCompile(`\b` + m[1] + `\b`).MatchString(fileText(t, path)) {
				t.Errorf("%s names %s, which is not in %s", doc, m[1], path)
			}
		}
	}
}

// anchors returns the names by which a document's headings can be linked to.
func anchors(text string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		name := regexp.MustCompile(`[^\w\- ]`).ReplaceAllString(strings.ToLower(m[1]), "")
		names = append(names, strings.ReplaceAll(name, " ", "-"))
	}
	return names
}

// TestDocsAreShort sees that no document and no paragraph is too long to read.
func TestDocsAreShort(t *testing.T) {
	t.Parallel()
	const mostLines, mostWords = 400, 100
	for doc, text := range documents(t) {
		if n := strings.Count(text, "\n"); n > mostLines {
			t.Errorf("%s has %d lines: split it, the most is %d", doc, n, mostLines)
		}
		for _, p := range paragraphs(text) {
			if n := len(strings.Fields(p)); n > mostWords {
				t.Errorf("%s has a paragraph of %d words, the most is %d: %.60s…", doc, n, mostWords, p)
			}
		}
	}
}

// paragraphs returns the paragraphs and the items of lists, without tables and code.
func paragraphs(text string) (out []string) {
	item := regexp.MustCompile(`^\s*([-*]|\d+\.) `)
	inside, code := false, false
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		fence := strings.HasPrefix(trimmed, "```")
		indented := strings.HasPrefix(line, "    ") && !inside
		switch {
		case fence:
			code, inside = !code, false
		case code, indented, trimmed == "", strings.HasPrefix(trimmed, "|"), strings.HasPrefix(trimmed, "#"):
			inside = false
		case inside && !item.MatchString(line):
			out[len(out)-1] += " " + trimmed
		default:
			out = append(out, trimmed)
			inside = true
		}
	}
	return out
}

// TestReadmeShowsTheExample sees that the code in the README is that of a program
// which is compiled and run, and which can be copied out of this repository.
func TestReadmeShowsTheExample(t *testing.T) {
	t.Parallel()
	const most = 20
	example := fileText(t, "examples/orders/main.go")
	lines := 0
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(fileText(t, "README.md"), -1) {
		if !strings.Contains(example, m[1]) {
			t.Errorf("examples/orders/main.go has not\n%s", m[1])
		}
		for line := range strings.Lines(m[1]) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
				lines++
			}
		}
	}
	if lines == 0 || lines > most {
		t.Errorf("the README shows %d lines of code, want 1 to %d", lines, most)
	}
	if strings.Contains(example, "/internal/") {
		t.Error("examples/orders/main.go imports what only this repository can")
	}
}
