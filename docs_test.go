package unilog_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsNameWhatIsThere sees that the tests and files which the documents
// name exist.
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
	for _, doc := range []string{"README.md", "docs/architecture.md", "docs/torture.md", "docs/torture-redis.md", "docs/operations.md", "docs/metrics.md", "docs/engines.md", "docs/model/README.md", "deploy/README.md"} {
		text, err := os.ReadFile(doc)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile("`(Test\\w+)`").FindAllSubmatch(text, -1) {
			if !bytes.Contains(tests.Bytes(), []byte("\nfunc "+string(name[1])+"(")) {
				t.Errorf("%s names %s, which is not there", doc, name[1])
			}
		}
		for _, link := range regexp.MustCompile(`\]\(([^):#]+)(?:#[\w-]+)?\)`).FindAllSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(doc), string(link[1]))); err != nil {
				t.Errorf("%s links to what is not there: %v", doc, err)
			}
		}
	}
}
