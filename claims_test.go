package unilog_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestClaimsAreShownOnRealServers sees that no test which the documents name as their
// evidence uses the log in memory.
func TestClaimsAreShownOnRealServers(t *testing.T) {
	t.Parallel()
	inMemory := map[string]string{}
	begin := regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	read := func(ending string, each func(path, text string)) {
		err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ending) {
				return err
			}
			text, err := os.ReadFile(path)
			each(path, string(text))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	read("_test.go", func(path, text string) {
		for _, f := range strings.Split(text, "\n}\n") {
			name := begin.FindStringSubmatch(f)
			if name != nil && (strings.Contains(f, "world.Setup(") || strings.Contains(f, "world.SetupPartitions(")) {
				inMemory[name[1]] = path
			}
		}
	})
	if len(inMemory) < 30 {
		t.Errorf("only %d tests use the log in memory: are these all?", len(inMemory))
	}
	named := regexp.MustCompile("`(Test\\w+)`")
	rows := 0
	read(".md", func(path, text string) {
		for line := range strings.Lines(text) {
			for _, name := range named.FindAllStringSubmatch(line, -1) {
				rows++
				if where := inMemory[name[1]]; where != "" {
					t.Errorf("%s names %s as evidence, which uses the log in memory: use world.SetupOnRedis in %s", path, name[1], where)
				}
			}
		}
	})
	if rows < 100 {
		t.Errorf("the documents name only %d tests", rows)
	}
}
