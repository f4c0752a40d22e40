package status_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
)

// TestDocsExplainTheStatus sees that the table of what status says has each text
// that the package can put into a trouble.
func TestDocsExplainTheStatus(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := bytes.Cut(doc, []byte("\n## What status says\n"))
	table, _, _ = bytes.Cut(table, []byte("\n## "))
	var all []ast.Decl
	for _, name := range []string{"status.go", "consumers.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, file.Decls...)
	}
	verbs := regexp.MustCompile(`%(?:\[\d\])?[.\d]*[a-z]`)
	texts := 0
	for _, d := range all {
		f, ok := d.(*ast.FuncDecl)
		if !ok || !slices.Contains([]string{"Troubles", "streamerTroubles", "logTroubles", "troubles", "haltTroubles"}, f.Name.Name) {
			continue
		}
		ast.Inspect(f, func(n ast.Node) bool {
			literal, ok := n.(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			for _, words := range verbs.Split(text, -1) {
				texts++
				if !bytes.Contains(table, []byte(words)) {
					t.Errorf("docs/operations.md does not explain %q of %s", words, f.Name.Name)
				}
			}
			return true
		})
	}
	if texts < 20 {
		t.Errorf("there are only %d texts: where are the others?", texts)
	}
}
