package unilog_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
)

// openSQL opens a world's database by database/sql.
func openSQL(tb testing.TB, w *world.World, mode pgx.QueryExecMode, settings map[string]string) *sql.DB {
	config := w.DB.Config().ConnConfig.Copy()
	config.DefaultQueryExecMode = mode
	for name, value := range settings {
		config.RuntimeParams[name] = value
	}
	db := stdlib.OpenDB(*config)
	tb.Cleanup(func() { w.Must(db.Close()) })
	return db
}

func rollBack(tb testing.TB, tx *sql.Tx) {
	if err := tx.Rollback(); err != nil {
		tb.Error(err)
	}
}

// sqlStaged has what is staged, in the order of staging, but for what differs each time.
const sqlStaged = `
SELECT coalesce(string_agg((to_jsonb(s) - '{id,staged_at,xid}'::text[])::text, E'\n' ORDER BY id), '')
FROM unilog.staged_records AS s`

// TestStageSQLStoresWhatStageStores stages what would break a text that is not escaped, or
// is escaped twice.
func TestStageSQLStoresWhatStageStores(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	texts := []string{
		`plain`, `"`, `\`, `\"`, `\\`, `{}`, `{a,b}`, `,`, `NULL`, `null`, ` edges `, "a\nb\tc\r", `''`, `'; --`, `$1`, `?`, `%s`,
		"\x01\x7f", "ü€🚀", strings.Repeat(`"\`, 1000),
	}
	var records []unilog.Record
	for _, text := range texts {
		quoted, err := json.Marshal(text)
		w.Must(err)
		records = append(
			records,
			unilog.Record{Action: text, Object: text, Key: text, Data: quoted},
			unilog.Record{Action: "a", Object: "o", Data: json.RawMessage(`{"x":1e3,"x":` + string(quoted) + `, "n": 123456789012345678901234567890.1234567890123456789000}`)},
		)
	}
	withHeaders := append([]unilog.Record{}, records...)
	for i, text := range texts {
		withHeaders[2*i].Headers = map[string]string{text: text, "h": ""}
	}
	bodies := append([]unilog.Record{{Action: "a", Object: "o", ContentType: "no/body"}}, withHeaders...)
	for i, text := range texts {
		bodies = append(bodies, unilog.Record{Action: "a", Object: "o", Key: text, Body: []byte(text + "\x00\xff" + text), ContentType: fmt.Sprintf(`a/"%d"\`, i)})
	}
	sets := [][]unilog.Record{records[:1], records, withHeaders, bodies, bodies[:1], {{Action: "a", Object: "o", Data: json.RawMessage("null")}}}
	for name, db := range map[string]*sql.DB{
		"prepared":        openSQL(t, w, pgx.QueryExecModeCacheStatement, nil),
		"exec":            openSQL(t, w, pgx.QueryExecModeExec, nil),
		"simple protocol": openSQL(t, w, pgx.QueryExecModeSimpleProtocol, nil),
		"old strings":     openSQL(t, w, pgx.QueryExecModeCacheStatement, map[string]string{"standard_conforming_strings": "off"}),
	} {
		for i, set := range sets {
			plain := w.Begin()
			w.Must(unilog.Stage(w.Ctx, plain, set...))
			var want, got string
			w.Must(plain.QueryRow(w.Ctx, sqlStaged).Scan(&want))
			w.Must(plain.Rollback(w.Ctx))
			tx, err := db.BeginTx(w.Ctx, nil)
			w.Must(err)
			w.Must(unilog.StageSQL(w.Ctx, tx, set...))
			w.Must(tx.QueryRowContext(w.Ctx, sqlStaged).Scan(&got))
			rollBack(t, tx)
			if got != want || strings.Count(got, "\n")+1 != len(set) {
				t.Errorf("%s, set %d: staged are\n%.3000s\nwant\n%.3000s", name, i, got, want)
			}
		}
	}
	w.WantCount("staged, all was rolled back", world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 0)
}

// TestStageSQLRefuses sees that the checks are those of Stage, and that what Postgres would
// change is not staged.
func TestStageSQLRefuses(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	db := openSQL(t, w, pgx.QueryExecModeCacheStatement, nil)
	inTx := func(do func(tx *sql.Tx) error) error {
		tx, err := db.BeginTx(w.Ctx, nil)
		w.Must(err)
		defer rollBack(t, tx)
		return do(tx)
	}
	var refused *unilog.RecordError
	w.Must(inTx(func(tx *sql.Tx) error {
		err := unilog.StageSQL(w.Ctx, tx, world.Record("1"), unilog.Record{Action: "a", Object: "o", Data: json.RawMessage(`"\u0000"`)})
		if !errors.As(err, &refused) || refused.Index != 1 || !errors.Is(err, unilog.ErrUnstorableJSON) {
			t.Errorf("StageSQL says %v", err)
		}
		w.Must(unilog.StageSQL(w.Ctx, tx)) // nothing is fine
		// Nothing was sent, so the transaction is as good as before.
		return unilog.StageSQL(w.Ctx, tx, world.Record("1"))
	}))
	for name, c := range map[string]struct {
		set  string
		text string
		err  error
	}{
		"another encoding": {`SET LOCAL client_encoding = 'LATIN1'`, "ü", unilog.ErrNotStaged},
		"a rule":           {`CREATE RULE r AS ON INSERT TO unilog.staged_records DO INSTEAD NOTHING`, "u", unilog.ErrNotStaged},
		"no table":         {`ALTER TABLE unilog.staged_records RENAME TO gone`, "u", nil},
	} {
		err := inTx(func(tx *sql.Tx) error {
			_, err := tx.ExecContext(w.Ctx, c.set)
			w.Must(err)
			return unilog.StageSQL(w.Ctx, tx, unilog.Record{Action: c.text, Object: "o", Data: json.RawMessage("1")})
		})
		if err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: StageSQL says %v, want %v", name, err, c.err)
		}
	}
	w.WantCount("staged", world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 0)
}

// BenchmarkStageSQL does what BenchmarkStage does.
func BenchmarkStageSQL(b *testing.B) {
	w := world.Setup(b)
	db := openSQL(b, w, pgx.QueryExecModeCacheStatement, nil)
	benchmarkStage(b, w, func(ctx context.Context, records ...unilog.Record) error {
		return unilog.StageSQL(ctx, db, records...)
	})
}
