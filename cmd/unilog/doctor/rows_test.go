package doctor

import (
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

// TestHiddenRows hides each of the log's tables from a role, in one way or another.
func TestHiddenRows(t *testing.T) {
	t.Parallel()
	db := testenv.Database(t, "world", world.MigrateWorld)
	exec := func(sql string) {
		t.Helper()
		if _, err := db.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	config := db.Config()
	config.ConnConfig.RuntimeParams["role"] = "pg_monitor"
	bound, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	want(t, examine(t, bound, nil)["rows"], OK)
	for table, processes := range tables {
		check := "rows of " + table
		exec(`ALTER TABLE unilog.` + table + ` ENABLE ROW LEVEL SECURITY`)
		found := examine(t, bound, nil)
		f := found[check]
		if want(t, f, Unsafe); !strings.Contains(f.Found, "unilog."+table) || !slices.Equal(f.Concerns, processes) {
			t.Errorf("of %s it says %+v", table, f)
		}
		want(t, examine(t, db, nil)[check], Advice) // the tables' owner sees all
		exec(`ALTER TABLE unilog.` + table + ` DISABLE ROW LEVEL SECURITY`)
		exec(`ALTER TABLE unilog.` + table + ` RENAME TO elsewhere`)
		exec(`CREATE VIEW unilog.` + table + ` AS SELECT * FROM unilog.elsewhere`)
		want(t, examine(t, db, nil)[check], Unsafe)
		exec(`DROP VIEW unilog.` + table)
		exec(`ALTER TABLE unilog.elsewhere RENAME TO ` + table)
	}
	want(t, examine(t, db, nil)["rows"], OK)
}
