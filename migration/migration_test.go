package migration

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

func TestUpRunsEachFileOnce(t *testing.T) {
	t.Parallel()
	pool := database(t)
	own := set("own", `CREATE TABLE ran (n int)`, `INSERT INTO ran VALUES (1); INSERT INTO ran VALUES (2) -- both`, `-- nothing`)
	sets := []Set{Log, own, Consumer}

	var outdated *OutdatedError
	if err := Check(t.Context(), pool, sets...); !errors.As(err, &outdated) || *outdated != (OutdatedError{"unilog_log", 0, newest(t, Log)}) {
		t.Errorf("Check says %v of an empty database", err)
	}
	wantRows(t, pool, sqlTables) // Check has made none

	migrate(t, pool, sets...)
	wantRows(t, pool, `SELECT n FROM ran`, "1", "2")
	wantRows(t, pool, `SELECT set_name || version FROM unilog.migrations WHERE set_name = 'own' ORDER BY 1`, "own1", "own2", "own3")
	wantRows(t, pool, `SELECT max(version) FROM unilog.migrations GROUP BY set_name ORDER BY set_name`, "3", fmt.Sprint(newest(t, Consumer)), fmt.Sprint(newest(t, Log)))
	wantRows(t, pool, `SELECT name FROM unilog.migrations WHERE set_name = 'unilog_log' ORDER BY version LIMIT 1`, "00001_log.sql")
	if err := Check(t.Context(), pool, sets...); err != nil {
		t.Errorf("Check says %v after Up", err)
	}

	before := ledger(t, pool)
	migrate(t, pool, sets...)
	if after := ledger(t, pool); !slices.Equal(before, after) {
		t.Errorf("the ledger was\n%q, and after another Up it is\n%q", before, after)
	}
	wantRows(t, pool, `SELECT n FROM ran`, "1", "2")

	longer := set("own", `SELECT 1/0`, `SELECT 1/0`, `SELECT 1/0`, `INSERT INTO ran VALUES (3)`)
	if err := Check(t.Context(), pool, Log, longer); !errors.As(err, &outdated) || *outdated != (OutdatedError{"own", 3, 4}) {
		t.Errorf("Check says %v", err)
	}
	migrate(t, pool, Log, longer)
	wantRows(t, pool, `SELECT n FROM ran`, "1", "2", "3")
}

func TestUpFromManyProcessesAtOnce(t *testing.T) {
	t.Parallel()
	pool := database(t)
	own := set("own", `CREATE TABLE ran (n int)`, `INSERT INTO ran VALUES (2)`, `INSERT INTO ran VALUES (3)`, `INSERT INTO ran VALUES (4)`)
	var processes errgroup.Group
	for range 8 {
		process := open(t, pool, pgx.QueryExecModeCacheStatement)
		processes.Go(func() error { return Up(t.Context(), process, own, Log, Consumer) })
	}
	if err := processes.Wait(); err != nil {
		t.Fatal(err)
	}
	wantRows(t, pool, `SELECT n FROM ran`, "2", "3", "4")
	wantRows(t, pool, `SELECT count(*) FROM unilog.partitions`, "1")
	wantRows(t, pool, `SELECT count(*) FROM unilog.migrations`, fmt.Sprint(4+newest(t, Log)+newest(t, Consumer)))
}

func TestFailedFileLeavesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ bad, says string }{
		"refused":            {`SELECT 1/0`, "division by zero"},
		"refused at the end": {`ALTER TABLE b ADD UNIQUE (n) DEFERRABLE INITIALLY DEFERRED; INSERT INTO b VALUES (1), (1)`, "duplicate key"},
		"dead":               {`SELECT pg_terminate_backend(pg_backend_pid())`, "terminating connection"},
		"no SQL":             {`nonsense`, "syntax error"},
		"a table is in use":  {`DO $$ BEGIN RAISE lock_not_available; END $$`, "wait for it to end and try again"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := database(t)
			const first, second, third = `CREATE TABLE a (n int)`, `CREATE TABLE b (n int);`, `CREATE TABLE c (n int)`
			err := Up(t.Context(), pool, set("own", first, second+c.bad, third), Consumer)
			if err == nil || !strings.HasPrefix(err.Error(), "migrate: own/00002_file.sql: ") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Up says %v, want %q of the second file", err, c.says)
			}
			wantRows(t, pool, sqlTables, "a", "unilog.migrations")
			wantRows(t, pool, sqlRun, "own1")
			migrate(t, pool, set("own", first, second, third))
			wantRows(t, pool, sqlTables, "a", "b", "c", "unilog.migrations")
			wantRows(t, pool, sqlRun, "own1", "own2", "own3")
		})
	}
}

func TestNewerDatabaseIsRefused(t *testing.T) {
	t.Parallel()
	pool := database(t)
	first, second := set("first", `CREATE TABLE a ()`), set("second", `CREATE TABLE b ()`, `CREATE TABLE c ()`)
	migrate(t, pool, second)
	before := ledger(t, pool)
	second = set("second", `CREATE TABLE b ()`)
	for what, err := range map[string]error{
		"Up":    Up(t.Context(), pool, first, second),
		"Check": Check(t.Context(), pool, second, first),
	} {
		var outdated *OutdatedError
		if !errors.As(err, &outdated) || *outdated != (OutdatedError{"second", 2, 1}) || !strings.Contains(err.Error(), "run a newer program") {
			t.Errorf("%s says %v", what, err)
		}
	}
	wantRows(t, pool, sqlTables, "b", "c", "unilog.migrations")
	if after := ledger(t, pool); !slices.Equal(before, after) {
		t.Errorf("the ledger was\n%q and is\n%q", before, after)
	}
}

// sqlSchema lists all that migrations make, but for who owns it and its oid.
const sqlSchema = `
SELECT x FROM (
    WITH own (n) AS (SELECT 'public'::regnamespace UNION SELECT relnamespace FROM pg_class WHERE oid = 'unilog.log'::regclass)
    SELECT format('column %s.%s %s %s %s %s %s', attrelid::regclass, attname, format_type(atttypid, atttypmod), attnotnull,
        attidentity, attgenerated, (SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum))
    FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped AND attrelid IN (SELECT oid FROM pg_class JOIN own ON relnamespace = own.n)
    UNION ALL SELECT format('%s %s %s', relkind, oid::regclass, reloptions) FROM pg_class JOIN own ON relnamespace = own.n
    UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON oid = indexrelid JOIN own ON relnamespace = own.n
    UNION ALL SELECT format('%s of %s: %s', conname, conrelid::regclass, pg_get_constraintdef(oid)) FROM pg_constraint JOIN own ON connamespace = own.n
    UNION ALL SELECT format('view %s: %s', oid::regclass, pg_get_viewdef(oid)) FROM pg_class JOIN own ON relnamespace = own.n WHERE relkind = 'v'
    UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger
    UNION ALL SELECT pg_get_functiondef(oid) FROM pg_proc JOIN own ON pronamespace = own.n
    UNION ALL SELECT format('run: %s %s %s', set_name, version, name) FROM unilog.migrations
    UNION ALL SELECT 'row ' || (to_jsonb(l) - 'log_id')::text FROM unilog.log AS l
    UNION ALL SELECT 'row ' || to_jsonb(p)::text FROM unilog.partitions AS p
    UNION ALL SELECT 'row ' || (to_jsonb(p) - 'since')::text FROM unilog.places AS p
) AS q (x) ORDER BY x COLLATE "C"`

func TestSQLIsWhatUpDoes(t *testing.T) {
	t.Parallel()
	own := set("own", `CREATE TABLE ran (n int); -- and a remark`, `INSERT INTO ran VALUES (1)`)
	byUp := database(t)
	migrate(t, byUp, Log, Consumer, own)
	want := rows(t, byUp, sqlSchema)
	if len(want) < 100 {
		t.Fatalf("the schema is only %q", want)
	}
	for name, parts := range map[string][][]Set{"at once": {{Log, Consumer, own}}, "one after the other": {{own}, {Consumer, Log}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool := database(t)
			for _, sets := range parts {
				text, err := SQL(sets...)
				if err != nil {
					t.Fatal(err)
				}
				exec(t, pool, text)
				// It is for a database without these sets, and changes none that has them.
				if _, err := pool.Exec(t.Context(), text); err == nil {
					t.Error("it was run twice")
				}
			}
			if got := rows(t, pool, sqlSchema); !slices.Equal(got, want) {
				t.Errorf("SQL makes\n%s\nUp makes\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if err := Check(t.Context(), pool, Log, Consumer, own); err != nil {
				t.Error(err)
			}
			before := ledger(t, pool)
			migrate(t, pool, Log, Consumer, own)
			if after := ledger(t, pool); !slices.Equal(before, after) {
				t.Errorf("the ledger was\n%q, and after Up it is\n%q", before, after)
			}
		})
	}
}
