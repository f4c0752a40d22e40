package unilog_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const (
	module = "github.com/rocketrides/unilog"
	pgconn = "github.com/jackc/pgx/v5/pgconn"
)

var (
	// The packages that the rooms stand on, in order.
	below   = strings.Fields(`internal/postgres internal/locks internal/loop internal/archive internal/retention internal/barrier internal/reader internal/sqltx`)
	rooms   = strings.Fields(`streamer consumer deliverer audit status redaction`)
	engines = strings.Fields(`pglog redislog kafkalog switchlog`)
	// What watches or ties together, for programs.
	above = strings.Fields(`metrics tracing engine`)
)

// mayImport is what of ours a package of the library may import, "." being the root,
// and the rule that says so. It is not ok for a package that the rules do not know.
func mayImport(dir string) (ours []string, rule string, ok bool) {
	base := append([]string{"."}, below...)
	switch {
	case dir == ".":
		return nil, "rule 1: the root package imports nothing of ours", true
	case dir == "redislog" || dir == "kafkalog":
		return []string{".", "internal/tlsfiles"}, "rule 2: an engine imports unilog", true
	case dir == "pglog" || dir == "switchlog":
		return []string{".", "internal/archive", "internal/locks", "internal/postgres", "internal/retention"}, "rule 2: an engine imports unilog, and one that is in the database, what reads that", true
	case dir == "logtest":
		return []string{".", "internal/await"}, "rule 2: the suite imports unilog", true
	case slices.Contains(rooms, dir):
		return base, "rule 3: " + strings.Join(rooms, ", ") + " never import each other; they stand on unilog and on internal packages", true
	case dir == "migration":
		return base, "rule 3: migration stands on unilog and on internal packages, like the rooms", true
	case slices.Contains(below, dir):
		return base[:1+slices.Index(below, dir)], "rule 4: of " + strings.Join(below, ", ") + " each imports only unilog and what stands before it", true
	case dir == "metrics" || dir == "tracing":
		return slices.Concat(base, rooms, []string{"internal/histogram"}), "rule 5: metrics and tracing import what they watch", true
	case dir == "engine":
		return slices.Concat(base, engines), "rule 5: package engine imports the engines", true
	case dir == "unilogtest":
		return append(base, "consumer", "migration", "pglog", "streamer"), "rule 5: the package for tests of others has what they have", true
	case dir == "endtoend":
		return nil, "endtoend has only tests", true
	case strings.HasPrefix(dir, "internal/"): // a tool
		return slices.Concat(base, rooms, engines, []string{"migration", "logtest", "internal"}),
			"rule 5: nothing imports " + strings.Join(above, ", ") + " but programs", true
	}
	return nil, "", false
}

// sourceFile is a Go file that is no test.
type sourceFile struct {
	name, dir string // with slashes, from the root
	*ast.File
	set *token.FileSet
}

// inLibrary says whether a file is the library's: not a command's, the demonstration's, an example or the comparison.
func (f *sourceFile) inLibrary() bool {
	first, _, _ := strings.Cut(f.dir, "/")
	return !slices.Contains([]string{"cmd", "rocketrides", "examples", "deploy", "peers"}, first)
}

// at is the file's name and the line of a position.
func (f *sourceFile) at(pos token.Pos) string {
	return f.name + ":" + strconv.Itoa(f.set.Position(pos).Line)
}

// sources are those of all modules in this directory.
func sources(t *testing.T) (files []*sourceFile) {
	t.Helper()
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if base := d.Name(); name != "." && (base[0] == '.' || base == "testdata" || base == "bin" || base == "dist") {
				return fs.SkipDir
			}
			return nil
		case !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(set, name, nil, parser.ParseComments)
		name = filepath.ToSlash(name)
		files = append(files, &sourceFile{name: name, dir: path.Dir(name), File: file, set: set})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 100 {
		t.Fatalf("only %d files are there", len(files))
	}
	return files
}

// TestImports sees that each package imports only what these rules let it:
//
//  1. The root imports nothing of ours, and of others only pgconn.
//  2. Engines, and their suite, import the root; some the archive, too.
//  3. The rooms never import each other, but the root and internal packages.
//  4. Internal packages import only the root and what stands before them, in one order.
//  5. What watches the rooms, or opens engines, is for programs: nothing here imports it.
//  6. The library does not name its demonstration; see the next test.
//  7. The library imports neither commands nor the demonstration, and the product's
//     command not the demonstration.
func TestImports(t *testing.T) {
	t.Parallel()
	for _, f := range sources(t) {
		ours, rule, known := mayImport(f.dir)
		if f.inLibrary() && !known {
			t.Errorf("%s: package %s is new: say in mayImport what of ours it may import", f.name, f.dir)
			continue
		}
		for _, spec := range f.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			where := f.at(spec.Pos()) + " imports " + imported
			dir, isOurs := strings.CutPrefix(imported+"/", module+"/")
			dir = path.Clean(dir)
			switch {
			case !isOurs:
				if f.dir == "." && strings.Contains(imported, ".") && imported != pgconn {
					t.Errorf("%s: rule 1: the root package imports only %s beside the standard library", where, pgconn)
				}
			case !f.inLibrary():
				if strings.HasPrefix(f.dir, "cmd/") && isIn(dir, "rocketrides") {
					t.Errorf("%s: rule 7: the product's command never imports the demonstration", where)
				}
			case !slices.ContainsFunc(ours, func(allowed string) bool { return dir == allowed || allowed == "internal" && isIn(dir, "internal") }):
				if isIn(dir, "cmd") || isIn(dir, "rocketrides") {
					rule = "rule 7: the library never imports its commands and the demonstration"
				}
				t.Errorf("%s: %s", where, rule)
			}
		}
	}
}

// isIn says whether a directory is another, or lies in it.
func isIn(dir, another string) bool { return dir == another || strings.HasPrefix(dir, another+"/") }

// TestTheLibraryDoesNotNameItsDemonstration is rule 6. Comments count, too, and so does
// the product's command. The owner of the module has the same name.
func TestTheLibraryDoesNotNameItsDemonstration(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`(?i)rocket[ _-]?rides`)
	for _, f := range sources(t) {
		if !f.inLibrary() && !strings.HasPrefix(f.dir, "cmd/") {
			continue
		}
		says := func(pos token.Pos, text string) {
			for i, line := range strings.Split(text, "\n") {
				if names.MatchString(strings.ReplaceAll(line, "github.com/rocketrides", "")) {
					t.Errorf("%s:%d names the demonstration: %s", f.name, f.set.Position(pos).Line+i, strings.TrimSpace(line))
				}
			}
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			if literal, ok := n.(*ast.BasicLit); ok && literal.Kind == token.STRING {
				says(literal.Pos(), literal.Value)
			}
			return true
		})
		for _, group := range f.Comments {
			for _, comment := range group.List {
				says(comment.Pos(), comment.Text)
			}
		}
	}
}
