package archive_test

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/world"
)

// entries are those that a test puts into the archive.
func entries(first, last int64) (all []unilog.Entry) {
	for o := first; o <= last; o++ {
		e := unilog.Entry{Partition: 1, Offset: o, StagedAt: time.UnixMicro(1_700_000_000_000_000 + o).UTC()}
		e.Action, e.Object, e.Key = fmt.Sprint("a", o), "o\"{ü},\\", strings.Repeat("k", int(o%3))
		e.Data = fmt.Appendf(nil, `{"n": %d.10, "s": "\\\"{}', ü%s"}`, o, strings.Repeat("x", 300))
		if o%4 == 0 {
			e.Headers = map[string]string{"tracé": fmt.Sprint(o), "x": `"`}
		}
		if o > 20 && o%5 == 1 { // the first batch has none, the second one nothing else
			e.Data = nil
			e.SetPayload([]byte("\x00\x80\\,{}\"" + strings.Repeat("\xff", int(o)))[:o%7*5], "application/x-"+strings.Repeat("x", int(o)))
		}
		all = append(all, e)
	}
	return all
}

// setup makes an archive with the batches 11 to 20, 21, and 22 to 40 of a partition.
func setup(t *testing.T) (w *world.World, all []unilog.Entry) {
	w = world.Setup(t)
	for _, b := range [][2]int64{{11, 20}, {21, 21}, {22, 40}} {
		w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error { return world.Archive(w.Ctx, tx, entries(b[0], b[1])) }))
	}
	return w, entries(11, 40)
}

func wantRead(t *testing.T, w *world.World, db archive.Reader, after, upTo int64, limit int, want []unilog.Entry) {
	t.Helper()
	got, err := archive.Read(w.Ctx, db, "", 1, after, upTo, limit)
	w.Must(err)
	if len(got) != len(want) || len(want) > 0 && !reflect.DeepEqual(got, want) {
		t.Errorf("%d up to %d, at most %d: read are %d entries, want %d\n%v\n%v", after, upTo, limit, len(got), len(want), got, want)
	}
}

// TestReadGivesAnyPart reads from each place to each other, with and without the
// binary form.
func TestReadGivesAnyPart(t *testing.T) {
	t.Parallel()
	w, all := setup(t)
	config := w.DB.Config().ConnConfig.Copy()
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	simple, err := pgx.ConnectConfig(w.Ctx, config)
	w.Must(err)
	defer simple.Close(w.Ctx)
	binary, err := pgx.ConnectConfig(w.Ctx, w.DB.Config().ConnConfig)
	w.Must(err)
	defer binary.Close(w.Ctx)
	for name, db := range map[string]*pgx.Conn{"binary": binary, "simple": simple} {
		for after := int64(10); after <= 41; after++ {
			for upTo := after; upTo <= 41; upTo++ {
				wantRead(t, w, db, after, upTo, 100, all[min(30, after-10):min(30, upTo-10)])
			}
			for limit := 1; limit < 35; limit += 3 {
				wantRead(t, w, db, after, 50, limit, all[min(30, after-10):min(30, int(after)-10+limit)])
			}
			if t.Failed() {
				t.Fatal(name)
			}
		}
	}
}

// TestReadWhereTheArchiveBegins asks for what is gone.
func TestReadWhereTheArchiveBegins(t *testing.T) {
	t.Parallel()
	w, all := setup(t)
	wantRead(t, w, w.DB, 0, 100, 5, all[:5])
	wantRead(t, w, w.DB, 0, 100, 100, all)
	wantRead(t, w, w.DB, 8, 100, 5, all[:3])
	wantRead(t, w, w.DB, 0, 10, 5, nil)
	wantRead(t, w, w.DB, 0, 12, 5, all[:2])
	wantRead(t, w, w.DB, 40, 100, 5, nil)
	first, err := archive.First(w.Ctx, w.DB, "", 1)
	w.Must(err)
	w.WantCount("the first offset", int(first), 11)
}

// TestReadIsBoundedInBytes gives whole batches as long as they fit, and one in any case.
func TestReadIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	w, all := setup(t)
	w.Exec(`UPDATE unilog.batches SET bytes = $1`, archive.BatchBytes/2)
	wantRead(t, w, w.DB, 10, 40, 100, all[:11])
	wantRead(t, w, w.DB, 15, 40, 100, all[5:11])
	w.Exec(`UPDATE unilog.batches SET bytes = $1`, archive.BatchBytes/2+1)
	wantRead(t, w, w.DB, 10, 40, 100, all[:10])
	w.Exec(`UPDATE unilog.batches SET bytes = $1`, 10*archive.BatchBytes)
	wantRead(t, w, w.DB, 10, 40, 100, all[:10])
	wantRead(t, w, w.DB, 20, 40, 100, all[10:11])
}

// TestMergeKeepsAllRecords merges what lies in a part of the archive.
func TestMergeKeepsAllRecords(t *testing.T) {
	t.Parallel()
	w, all := setup(t)
	merge := func(after, upTo int64) {
		t.Helper()
		w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error { return archive.Merge(w.Ctx, tx, "", 1, after, upTo) }))
		wantRead(t, w, w.DB, 10, 40, 100, all)
	}
	batches := func(want string) {
		t.Helper()
		if got := world.Query[string](w, `SELECT string_agg(first_offset || '-' || last_offset, ' ' ORDER BY last_offset) FROM unilog.batches`); got != want {
			t.Errorf("the batches are %s, want %s", got, want)
		}
	}
	bytes := world.Query[int](w, `SELECT sum(bytes)::int FROM unilog.batches`)
	merge(50, 60) // nothing there
	batches("11-20 21-21 22-40")
	merge(10, 21)
	batches("11-21 22-40")
	merge(0, 100)
	batches("11-40")
	w.WantCount("bytes", world.Query[int](w, `SELECT sum(bytes)::int FROM unilog.batches`), bytes)
	of := func(sql string) string {
		return world.Query[string](w, `SELECT string_agg(r::text, E'\n' ORDER BY "offset") FROM `+sql+` AS r WHERE content_type IS NOT NULL`)
	}
	if view, function := of(`unilog.records`), of(`unilog.records_between(1, 0, 50)`); view != function || strings.Count(view, "\n") != 3 {
		t.Errorf("the view has the bodies\n%s\nand the function\n%s", view, function)
	}
}

// TestMergeLeavesWhatIsNotWhole merges over rows that were deleted or damaged by hand.
func TestMergeLeavesWhatIsNotWhole(t *testing.T) {
	t.Parallel()
	for harm, want := range map[string]int{
		`DELETE FROM unilog.batches WHERE last_offset = 21`:                          2,
		`UPDATE unilog.batches SET action = action || action WHERE last_offset = 21`: 3,
		`UPDATE unilog.batches SET body = body || body WHERE last_offset = 21`:       3,
		`UPDATE unilog.batches SET content_type = NULL WHERE last_offset = 21`:       3,
	} {
		w, _ := setup(t)
		w.Exec(harm)
		w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error { return archive.Merge(w.Ctx, tx, "", 1, 10, 40) }))
		w.WantCount("batches", world.Query[int](w, `SELECT count(*) FROM unilog.batches`), want)
		w.Exec(`TRUNCATE unilog.batches`)
	}
}

// TestReadOfDamage ends before a batch that is damaged, in any form of an answer, and
// names one that comes first.
func TestReadOfDamage(t *testing.T) {
	t.Parallel()
	for _, harm := range []string{
		`UPDATE unilog.batches SET key = key || '{too many}' WHERE last_offset = 40`,
		`UPDATE unilog.batches SET headers = headers[3:] WHERE last_offset = 40`,
		`UPDATE unilog.batches SET staged_at = '{}' WHERE last_offset = 40`,
		`UPDATE unilog.batches SET headers[15] = 'no JSON' WHERE last_offset = 40`,
		`UPDATE unilog.batches SET object[15] = NULL WHERE last_offset = 40`,
		`UPDATE unilog.batches SET body = body || '{x}'::bytea[] WHERE last_offset = 40`,
		`UPDATE unilog.batches SET body = array_fill(NULL::bytea, ARRAY[19]) WHERE last_offset = 40`,
		`UPDATE unilog.batches SET content_type = NULL WHERE last_offset = 40`,
		`UPDATE unilog.batches SET content_type[15] = NULL WHERE last_offset = 40`,
		`UPDATE unilog.batches SET content_type[15] = '' WHERE last_offset = 40`,
		`UPDATE unilog.batches SET content_type[14] = 'a/b' WHERE last_offset = 40`,
		`UPDATE unilog.batches SET data[15] = '1' WHERE last_offset = 40`,
		`UPDATE unilog.batches SET data[14] = NULL WHERE last_offset = 40`,
	} {
		w, all := setup(t)
		w.Exec(harm)
		config := w.DB.Config().ConnConfig.Copy()
		config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
		simple, err := pgx.ConnectConfig(w.Ctx, config)
		w.Must(err)
		for name, db := range map[string]archive.Reader{"binary": w.DB, "simple": simple} {
			wantRead(t, w, db, 10, 40, 100, all[:11])
			for _, after := range []int64{21, 29} {
				var damaged *archive.DamagedError
				got, err := archive.Read(w.Ctx, db, "", 1, after, 40, 100)
				if !errors.As(err, &damaged) || damaged.Partition != 1 || damaged.First != 22 || damaged.Last != 40 {
					t.Errorf("%s, %s, after %d: %d entries, %v", harm, name, after, len(got), err)
				}
			}
		}
		w.Must(simple.Close(w.Ctx))
		w.Exec(`TRUNCATE unilog.batches`)
	}
}
