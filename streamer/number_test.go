package streamer_test

import (
	"crypto/rand"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestPlansOnLargeTables sees that each statement of a loop is served by its
// index, whether or not Postgres has statistics about the tables yet.
func TestPlansOnLargeTables(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const rows = 100_000
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	w.CommitMany(rows / 2)
	w.Drain(s)
	w.CommitMany(rows)
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition) SELECT 'c' || n, 0 FROM generate_series(1, 1000) AS n`)
	w.Exec(`INSERT INTO unilog.batches SELECT 0, n, n, 10, now(), ARRAY[now()], ARRAY['a'], ARRAY['o'], ARRAY[''], ARRAY['{}'], ARRAY['{}']
		FROM generate_series(1000001, 1100000) AS n`)

	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.Exec(`ANALYZE`)
		}
		for _, c := range []struct {
			sql  string
			args []any
			uses string
		}{
			{streamer.SQLNumber, numberingArgs(w, 0, math.MaxInt64), "Index Scan using staged_records_pkey"},
			{streamer.SQLNumberSmall, numberingArgs(w, 0, math.MaxInt64), "Index Scan using staged_records_pkey"},
			{streamer.SQLStaged, []any{0}, "staged_records_pkey"},
			{streamer.SQLStray, []any{0}, "staged_records_pkey"},
			{streamer.SQLFit, []any{0, 1_050_000, 1_050_100, 1 << 20}, "batches_pkey"},
		} {
			plan := explain(w, c.sql, c.args...)
			if !strings.Contains(plan, c.uses) {
				t.Errorf("analyzed %v: no %q in the plan of\n%s\n%s", analyzed, c.uses, c.sql, plan)
			}
			if large := regexp.MustCompile(`Seq Scan on (staged_records|batches|checkpoints)`).FindString(plan); large != "" {
				t.Errorf("analyzed %v: %q in the plan of\n%s\n%s", analyzed, large, c.sql, plan)
			}
		}
	}
	w.Exec(`TRUNCATE unilog.checkpoints`)
	w.Exec(`DELETE FROM unilog.batches WHERE first_offset > 1000000`)
}

// explain runs a statement as the streamer's sessions do, and rolls it back.
func explain(w *world.World, sql string, args ...any) string {
	w.Helper()
	tx := w.Begin()
	defer func() { w.Must(tx.Rollback(w.Ctx)) }()
	_, err := tx.Exec(w.Ctx, `SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off`)
	w.Must(err)
	rows, err := tx.Query(w.Ctx, `EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off, SUMMARY off) `+sql, args...)
	w.Must(err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.Must(err)
	return strings.Join(lines, "\n")
}

// numberingArgs are those of a step that numbers the ids after one and up to another.
func numberingArgs(w *world.World, after, upTo int64) []any {
	w.Helper()
	epoch := world.Query[int64](w, `SELECT epoch FROM unilog.log`)
	return []any{epoch, 1000, 4 << 20, after, upTo, []int32{0}, []int32{}, []int64{}, true}
}

// TestBodiesOnlyWhereThereAreAny numbers records of both kinds. A batch that has only JSON
// has no bodies, whatever was numbered with it; and a step ends where bodies are large.
func TestBodiesOnlyWhereThereAreAny(t *testing.T) {
	t.Parallel()
	undisturbed(t, numberBothKinds)
}

func numberBothKinds(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	w.Repartition(2, 1)
	keys := [2]string{}
	for n := 0; keys[0] == "" || keys[1] == ""; n++ {
		keys[unilog.PartitionOf(strconv.Itoa(n), 2)] = strconv.Itoa(n)
	}
	json, body := world.Record(" 0"), world.BodyRecord("0")
	json.Key, body.Key = keys[0], keys[1]
	large, empty := body, body
	large.Body, empty.Body = make([]byte, unilog.MaxRecordBytes-100), []byte{}
	_, err := rand.Read(large.Body)
	w.Must(err)
	s := w.Streamer()
	stage := func(records ...unilog.Record) {
		w.Must(unilog.Stage(w.Ctx, w.DB, records...))
		w.Drain(s)
	}
	sent := []unilog.Record{json, body, empty, json, large, large, large, large, large, large, json}
	stage(sent...)
	last := json // without bodies beside it
	last.Key = keys[1]
	stage(last)

	batches := world.Query[string](w, `SELECT string_agg(format('%s: %s of %s', partition, cardinality(array_remove(body, NULL)), cardinality(data)), ', '
		ORDER BY partition, first_offset) FROM unilog.batches WHERE object[1] <> 'unilog'`)
	if !isTerm(w, 2) { // the first since the partitions are two; the next one may number less at a time
		return false
	}
	if batches != "0:  of 2, 0:  of 1, 1: 7 of 7, 1: 1 of 1, 1:  of 1" {
		t.Errorf("of the records in each batch, so many are bodies: %s", batches)
	}
	sent = append(sent, last)
	for partition, key := range keys {
		want := slices.DeleteFunc(slices.Clone(sent), func(r unilog.Record) bool { return r.Key != key })
		entries := slices.DeleteFunc(w.Memory.Entries(partition), func(e unilog.Entry) bool { return e.Object == unilog.ReservedObject })
		w.WantCount("entries", len(entries), len(want))
		for i := range entries {
			if !reflect.DeepEqual(entries[i].Record, want[i]) {
				t.Errorf("partition %d, entry %d is %.99q, want %.99q", partition, i+1, entries[i].Record, want[i])
			}
		}
	}
	return true
}

// TestSmallRecordsGoStraightIntoTheirBatch has small records, which need not be put in
// order, and then one in each way in which it is not small, which they wait for.
func TestSmallRecordsGoStraightIntoTheirBatch(t *testing.T) {
	t.Parallel()
	for name, other := range map[string]func(*unilog.Record){
		"object":  func(r *unilog.Record) { r.Object = strings.Repeat("o", 4096) },
		"key":     func(r *unilog.Record) { r.Key = strings.Repeat("k", 4096) },
		"data":    func(r *unilog.Record) { r.Data = []byte(`"` + strings.Repeat("d", 4096) + `"`) },
		"headers": func(r *unilog.Record) { r.Headers = map[string]string{"h": strings.Repeat("h", 4096)} },
		"body":    func(r *unilog.Record) { r.Data, r.Body, r.ContentType = nil, []byte("b"), "text/plain" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			undisturbed(t, func(t *testing.T) bool { return goStraight(t, other) })
		})
	}
}

func goStraight(t *testing.T, other func(*unilog.Record)) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	s := w.Streamer()
	var sent []unilog.Record
	stage := func(n int, records ...unilog.Record) {
		for i := range n {
			r := world.Record(" " + strconv.Itoa(i))
			r.Key, r.Headers = strconv.Itoa(i), map[string]string{"n": strconv.Itoa(i)}
			records = append(records, r)
		}
		w.Must(unilog.Stage(w.Ctx, w.DB, records...))
		w.Drain(s)
		sent = append(sent, records...)
	}
	stage(1000)
	if !s.Straight() {
		t.Error("small records have not gone straight")
	}
	not := world.Record(" 0")
	other(&not)
	stage(1000, not)
	isStraight := s.Straight()
	if !isTerm(w, 1) { // a new one tries it again
		return false
	}
	if isStraight {
		t.Error("one that is not small has gone straight")
	}
	stage(10)
	entries := w.Memory.Entries(0)
	w.WantCount("entries", len(entries), len(sent))
	for i := range entries {
		if !reflect.DeepEqual(entries[i].Record, sent[i]) {
			t.Fatalf("entry %d is %.99q, want %.99q", i+1, entries[i].Record, sent[i])
		}
	}
	return true
}

// TestStagedRowsThatAreChangedMeanwhile numbers rows that somebody changes and deletes by
// hand in a transaction of his own, which ends while the step waits for it.
func TestStagedRowsThatAreChangedMeanwhile(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.Drain(s)
	w.Commit("1", "2", "4")
	tx := w.Begin()
	_, err := tx.Exec(w.Ctx, `DELETE FROM unilog.staged_records WHERE data ->> 'amount' = '1'`)
	w.Must(err)
	_, err = tx.Exec(w.Ctx, `UPDATE unilog.staged_records SET data = '{"amount": 8}' WHERE data ->> 'amount' = '2'`)
	w.Must(err)
	var numbering errgroup.Group
	numbering.Go(func() error { return persistently(w.Ctx, s.RunOnce) })
	w.AwaitTrue("the numbering to wait for the row", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	w.Must(tx.Commit(w.Ctx))
	w.Ended("the numbering", &numbering)
	w.Drain(s)
	if amounts := world.Query[string](w, `SELECT string_agg(data ->> 'amount', ' ' ORDER BY "offset") FROM unilog.records`); amounts != "8 4" {
		t.Errorf("numbered were %s, want 8 4", amounts)
	}
}
