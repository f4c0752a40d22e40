package migration

import (
	"strings"
	"testing"
	"testing/fstest"
)

func TestBadSetsAreNamed(t *testing.T) {
	t.Parallel()
	fs := func(names ...string) Set {
		files := fstest.MapFS{}
		for _, name := range names {
			files[name] = &fstest.MapFile{}
		}
		return Set{Name: "own", FS: files}
	}
	for says, bad := range map[string]Set{
		`migration set "own": 00003_c.sql must have the number 00002`:     fs("00001_a.sql", "00003_c.sql"),
		`migration set "own": 00001_b.sql must have the number 00002`:     fs("00001_a.sql", "00001_b.sql", "00002_c.sql"),
		`migration set "own": 00000_a.sql must have the number 00001`:     fs("00000_a.sql", "00001_b.sql"),
		`migration set "own": 00002_a.sql must have the number 00001`:     fs("00002_a.sql"),
		`migration set "own": 1_a.sql must be called like 00001_name.sql`: fs("1_a.sql"),
		`migration set "own": 00001.sql must be called like`:              fs("00001.sql"),
		`migration set "own": 00002_it's.sql must be called like`:         fs("00001_a.sql", "00002_it's.sql"),
		`migration set "own": it has no file like 00001_name.sql`:         fs("README.md", "00001_a.txt"),
		`migration set "own": it has no FS`:                               {Name: "own"},
		`migration set "it's": its name must be of`:                       {Name: "it's", FS: fs("00001_a.sql").FS},
		`migration set "": its name must be of`:                           {FS: fs("00001_a.sql").FS},
	} {
		_, sql := SQL(Log, bad)
		for what, err := range map[string]error{
			"Up": Up(t.Context(), nil, Log, bad), "Check": Check(t.Context(), nil, Log, bad), "SQL": sql,
		} { // none gets as far as the database
			if err == nil || !strings.HasPrefix(err.Error(), says) {
				t.Errorf("%s says %v, want %s", what, err, says)
			}
		}
	}
	if _, err := SQL(fs("00001_a.sql", "00002_b.sql", "README.md", "embed.go")); err != nil {
		t.Errorf("with other files beside: %v", err)
	}
}
