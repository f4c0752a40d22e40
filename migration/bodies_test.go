package migration

import (
	"fmt"
	"io/fs"
	"slices"
	"testing"
	"testing/fstest"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/postgres"
)

// baseline is a set as it was first.
func baseline(t *testing.T, s Set) Set {
	t.Helper()
	files, err := fs.Glob(s.FS, "00001_*.sql")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := fs.ReadFile(s.FS, files[0])
	if err != nil {
		t.Fatal(err)
	}
	s.FS = fstest.MapFS{files[0]: {Data: text}}
	return s
}

// TestBodiesComeToALogInUse upgrades a log that has records. What older programs do then
// goes on, but for what would lose a body.
func TestBodiesComeToALogInUse(t *testing.T) {
	t.Parallel()
	pool := database(t)
	first, err := SQL(baseline(t, Log), baseline(t, Consumer))
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, first)
	const stage = `INSERT INTO unilog.staged_records (action, object, data, headers) VALUES ('a', 'o', '{"n": 1}', '{"h": "v"}')`
	const archive = `INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers) VALUES `
	exec(t, pool, stage)
	exec(t, pool, archive+`(0, 1, 2, 9, ARRAY[now(), now()], '{a,a}', '{o,o}', '{"",k}', '{1,2}', '{"{}","{}"}')`)
	exec(t, pool, `UPDATE unilog.partitions SET next_offset = 3`)
	const records, between = `SELECT r FROM unilog.records AS r ORDER BY "offset"`, `SELECT r FROM unilog.records_between(0, 0, 9) AS r`
	const columns = `SELECT ("offset", action, object, key, data, headers) FROM unilog.records ORDER BY "offset"`
	before := rows(t, pool, columns)

	migrate(t, pool, Log, Consumer)
	if after := rows(t, pool, columns); !slices.Equal(before, after) || len(after) != 2 {
		t.Errorf("the archive had %q, and has %q", before, after)
	}
	exec(t, pool, stage)
	exec(t, pool, `INSERT INTO unilog.staged_records (action, object, body, content_type) VALUES ('a', 'o', '', 'a/b')`)
	exec(t, pool, archive+`(0, 3, 3, 9, ARRAY[now()], '{a}', '{o}', '{""}', '{3}', '{"{}"}')`)
	_, err = pool.Exec(t.Context(), archive+`(0, 4, 5, 9, ARRAY[now(), now()], '{a,a}', '{o,o}', '{"",""}', '{4,NULL}', '{"{}","{}"}')`)
	if postgres.SQLState(err) != "23514" {
		t.Errorf("a streamer of before numbers a body: %v", err)
	}
	exec(t, pool, `INSERT INTO unilog.batches SELECT 0, 4, 5, 9, now(), ARRAY[now(), now()], '{a,a}', '{o,o}', '{"",""}', '{4,NULL}', '{"{}","{}"}',
		ARRAY[NULL, '\x0080'::bytea], '{NULL,a/b}'`)
	if view, function := rows(t, pool, records), rows(t, pool, between); !slices.Equal(view, function) || len(view) != 5 {
		t.Errorf("the view has\n%q\nand the function\n%q", view, function)
	}
	wantRows(t, pool, `SELECT (data, body, content_type) FROM unilog.records WHERE "offset" >= 4 ORDER BY "offset"`, `(4,,)`, `(,"\\x0080",a/b)`)

	const park = `INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, headers, error, data, body, content_type)
		VALUES ('c', 0, 1, now(), 'a', 'o', '', '{}', '', `
	for _, payload := range []string{`NULL, NULL, NULL`, `NULL, '', NULL`, `'1', '', 'a/b'`, `'1', NULL, 'a/b'`} {
		if _, err := pool.Exec(t.Context(), park+payload+`)`); postgres.SQLState(err) != "23514" {
			t.Errorf("parked with %s: %v", payload, err)
		}
	}
}

// TestUpgradesGiveUpBehindAReader has a transaction that reads all tables while they are
// upgraded, from each version: nobody else may wait behind an upgrade for it.
func TestUpgradesGiveUpBehindAReader(t *testing.T) {
	t.Parallel()
	for _, s := range []Set{Log, Consumer} {
		for version := int64(1); version < newest(t, s); version++ {
			t.Run(fmt.Sprint(s.Name, version), func(t *testing.T) {
				t.Parallel()
				pool := database(t)
				files, err := s.read()
				if err != nil {
					t.Fatal(err)
				}
				before := Set{Name: s.Name, FS: fstest.MapFS{}}
				for _, f := range files[:version] {
					text, err := fs.ReadFile(s.FS, f.name)
					if err != nil {
						t.Fatal(err)
					}
					before.FS.(fstest.MapFS)[f.name] = &fstest.MapFile{Data: text}
				}
				text, err := SQL(before)
				if err != nil {
					t.Fatal(err)
				}
				exec(t, pool, text)
				tx, err := pool.Begin(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = tx.Rollback(t.Context()) }()
				_, err = tx.Exec(t.Context(), `DO $$ BEGIN EXECUTE (SELECT 'LOCK TABLE ' || string_agg(oid::regclass::text, ', ') || ' IN ACCESS SHARE MODE'
					FROM pg_class WHERE relnamespace = 'unilog'::regnamespace AND relkind = 'r' AND relname <> 'migrations'); END $$`)
				if err != nil {
					t.Fatal(err)
				}
				ctx := await.Context(t, "the upgrade to give up")
				if err := Up(ctx, open(t, pool, pgx.QueryExecModeCacheStatement), s); err != nil && postgres.SQLState(err) != lockNotAvailable {
					t.Errorf("it says %v", err)
				}
			})
		}
	}
}
