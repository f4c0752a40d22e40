package migration

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
)

//go:embed log/*.sql consumer/*.sql
var embedded embed.FS

// Set is a series of migrations with a version of its own: the number of the
// last file that was run.
type Set struct {
	// Name, of a to z, 0 to 9 and _, tells the set from others in the database.
	Name string
	// FS holds the migrations at its root: 00001_name.sql, 00002_name.sql and so
	// on, without a gap. Files that do not end in .sql are passed over.
	//
	// A file is UTF-8 and runs in one transaction, so it has no BEGIN and no
	// COMMIT, and nothing that Postgres refuses in a transaction.
	FS fs.FS
	// Needs are the tables and columns that the newest file leaves and that the program
	// cannot do without, for [Check] to look at: a line for each table, such as
	// "table orders id amount". They may be left out.
	Needs string
}

// The library's sets.
var (
	Log      = Set{Name: "unilog_log", FS: sub("log")}
	Consumer = Set{Name: "unilog_consumer", FS: sub("consumer")}
)

func sub(dir string) fs.FS {
	f, err := fs.Sub(embedded, dir)
	if err != nil {
		panic(err) // the directory is embedded
	}
	return f
}

// file is a migration. Its names need no quoting in SQL.
type file struct {
	set     string
	version int64
	name    string // 00001_name.sql
	text    string
}

func (f *file) String() string { return f.set + "/" + f.name }

// sql is the file's statements, and the one that notes in the ledger that they
// were run.
func (f *file) sql() string {
	text := strings.TrimSpace(f.text)
	if !strings.HasSuffix(text, ";") {
		text += "\n;"
	}
	return fmt.Sprintf("%s\n\n%s;\n", text, f.ledger())
}

// ledger is the statement that notes that the file was run.
func (f *file) ledger() string {
	return fmt.Sprintf("INSERT INTO unilog.migrations (set_name, version, name) VALUES ('%s', %d, '%s')", f.set, f.version, f.name)
}

var (
	setNames  = regexp.MustCompile(`^[a-z0-9_]+$`)
	fileNames = regexp.MustCompile(`^[0-9]{5}_[a-z0-9_]+\.sql$`)
)

// read returns the files of each set in their order.
func read(sets []Set) ([][]file, error) {
	all := make([][]file, len(sets))
	for i, set := range sets {
		files, err := set.read()
		if err != nil {
			return nil, fmt.Errorf("migration set %q: %w", set.Name, err)
		}
		all[i] = files
	}
	return all, nil
}

func (s Set) read() ([]file, error) {
	if !setNames.MatchString(s.Name) {
		return nil, errors.New("its name must be of a to z, 0 to 9 and _")
	}
	if s.FS == nil {
		return nil, errors.New("it has no FS")
	}
	entries, err := fs.ReadDir(s.FS, ".")
	if err != nil {
		return nil, err
	}
	var files []file
	for _, e := range entries { // sorted, so by their numbers
		name := e.Name()
		if !strings.HasSuffix(name, ".sql") {
			continue
		}
		if !fileNames.MatchString(name) {
			return nil, fmt.Errorf("%s must be called like 00001_name.sql, with a to z, 0 to 9 and _", name)
		}
		f := file{set: s.Name, version: int64(len(files) + 1), name: name}
		if want := fmt.Sprintf("%05d", f.version); name[:5] != want {
			return nil, fmt.Errorf("%s must have the number %s: no gaps, and none twice", name, want)
		}
		text, err := fs.ReadFile(s.FS, name)
		if err != nil {
			return nil, err
		}
		f.text = string(text)
		files = append(files, f)
	}
	if len(files) == 0 {
		return nil, errors.New("it has no file like 00001_name.sql")
	}
	return files, nil
}
