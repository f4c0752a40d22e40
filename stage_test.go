package unilog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/world"
)

func TestStageFollowsTheTransaction(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	staged := func() int { return world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`) }
	tx := w.Begin()
	w.Note(tx, "1", "2")
	w.WantCount("staged before the commit, as others see it", staged(), 0)
	w.Must(tx.Rollback(w.Ctx))
	w.WantCount("staged after a rollback", staged(), 0)
	w.WantCount("published after a rollback", w.Drain(w.Streamer()), 0)
	w.Commit("3", "4")
	w.WantCount("staged after a commit", staged(), 2)
}

func TestStageKeepsOrderAndContents(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var records []unilog.Record
	for i := range 1000 {
		records = append(records, unilog.Record{
			Action: "create", Object: "ride", Key: fmt.Sprint(i),
			Data:    json.RawMessage(fmt.Sprintf(`{"n":%d,"exact":1.%030d}`, i, i)),
			Headers: map[string]string{"h": strings.Repeat("ü\"\n", i%3)},
		})
		if r := &records[i]; i%10 == 7 {
			r.Data = nil
			r.SetPayload([]byte("\x00\x80\\x")[:i%4], fmt.Sprintf(`application/x-%d; charset="\'"`, i))
		}
	}
	w.Must(unilog.Stage(w.Ctx, w.DB, records...))
	w.Must(unilog.Stage(w.Ctx, w.DB)) // nothing is fine
	w.Drain(w.Streamer())
	entries, err := w.Log.Read(w.Ctx, 0, unilog.Cursor{}, 2000, 0)
	w.Must(err)
	w.WantCount("entries", len(entries), len(records))
	for i, e := range entries {
		want := fmt.Sprintf(`{"n": %d, "exact": 1.%030d}`, i, i)
		if e.ContentType != "" {
			want = string(records[i].Body)
		}
		if e.Key != records[i].Key || e.ContentType != records[i].ContentType || string(e.Payload()) != want || e.Headers["h"] != records[i].Headers["h"] || e.StagedAt.IsZero() {
			t.Fatalf("entry %d is %+v, staged was %+v", i, e, records[i])
		}
	}
}

func TestStageRefuses(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	ok := world.Record("1")
	with := func(change func(r *unilog.Record)) unilog.Record {
		r := ok
		change(&r)
		return r
	}
	data := func(s string) unilog.Record {
		return with(func(r *unilog.Record) { r.Data = json.RawMessage(s) })
	}
	body := func(body, contentType string) unilog.Record {
		return with(func(r *unilog.Record) { r.Data, r.Body, r.ContentType = nil, []byte(body), contentType })
	}
	for name, c := range map[string]struct {
		record unilog.Record
		field  string
		err    error
	}{
		"no action":             {with(func(r *unilog.Record) { r.Action = "" }), "Action", unilog.ErrEmpty},
		"no object":             {with(func(r *unilog.Record) { r.Object = "" }), "Object", unilog.ErrEmpty},
		"NUL in the key":        {with(func(r *unilog.Record) { r.Key = "a\x00" }), "Key", unilog.ErrInvalidText},
		"action not UTF-8":      {with(func(r *unilog.Record) { r.Action = "\xff" }), "Action", unilog.ErrInvalidText},
		"no data":               {data(``), "Data", unilog.ErrEmpty},
		"data not JSON":         {data(`{"a":1`), "Data", unilog.ErrInvalidJSON},
		"two documents":         {data(`1 2`), "Data", unilog.ErrInvalidJSON},
		"data not UTF-8":        {data("\"\xff\""), "Data", unilog.ErrInvalidJSON},
		"NUL in data":           {data(`"\u0000"`), "Data", unilog.ErrUnstorableJSON},
		"NUL in a name":         {data(`{"\u0000":1}`), "Data", unilog.ErrUnstorableJSON},
		"low surrogate alone":   {data(`"\ude00"`), "Data", unilog.ErrUnstorableJSON},
		"high surrogate alone":  {data(`"\ud83d"`), "Data", unilog.ErrUnstorableJSON},
		"two high surrogates":   {data(`"\ud83d\ud83d"`), "Data", unilog.ErrUnstorableJSON},
		"number too large":      {data(`1e131073`), "Data", unilog.ErrUnstorableJSON},
		"number too small":      {data(`1e-16384`), "Data", unilog.ErrUnstorableJSON},
		"exponent out of sight": {data(`1e99999999999999999999`), "Data", unilog.ErrUnstorableJSON},
		"nested too deep":       {data(strings.Repeat("[", 1001) + strings.Repeat("]", 1001)), "Data", unilog.ErrUnstorableJSON},
		"data too large":        {data(`"` + strings.Repeat("x", unilog.MaxRecordBytes) + `"`), "Data", unilog.ErrTooLarge},
		"numbers too large":     {data(`[` + strings.Repeat("1e100000,", 20) + `1]`), "Data", unilog.ErrTooLarge},
		"key too large":         {with(func(r *unilog.Record) { r.Key = strings.Repeat("k", unilog.MaxRecordBytes) }), "Key", unilog.ErrTooLarge},
		"headers too large": {with(func(r *unilog.Record) {
			r.Headers = map[string]string{"h": strings.Repeat("\x01", unilog.MaxRecordBytes/5)}
		}), "Headers", unilog.ErrTooLarge},
		"body and data":           {with(func(r *unilog.Record) { r.Body, r.ContentType = []byte("x"), "a/b" }), "Body", unilog.ErrTwoPayloads},
		"body beside data, alone": {with(func(r *unilog.Record) { r.Body = []byte("x") }), "Body", unilog.ErrTwoPayloads},
		"content type of data":    {with(func(r *unilog.Record) { r.ContentType = "application/json" }), "ContentType", unilog.ErrTwoPayloads},
		"body of no type":         {body("x", ""), "ContentType", unilog.ErrEmpty},
		"body too large":          {body(strings.Repeat("x", unilog.MaxRecordBytes-len("noteamount")-2), "a/b"), "Body", unilog.ErrTooLarge},
		"key before a body": {with(func(r *unilog.Record) {
			r.Key, r.Data, r.ContentType = strings.Repeat("k", unilog.MaxRecordBytes-12), nil, "a/b"
		}), "ContentType", unilog.ErrTooLarge},
		"content type too long": {body("x", strings.Repeat("a", unilog.MaxContentTypeBytes+1)), "ContentType", unilog.ErrInvalidContentType},
		"end of a line in it":   {body("x", "a/b\r\n"), "ContentType", unilog.ErrInvalidContentType},
		"tab in it":             {body("x", "a/b;\tc"), "ContentType", unilog.ErrInvalidContentType},
		"beyond ASCII":          {body("x", "a/ü"), "ContentType", unilog.ErrInvalidContentType},
		"not UTF-8 in it":       {body("x", "a/\xff"), "ContentType", unilog.ErrInvalidContentType},
		"DEL in it":             {body("x", "a/\x7f"), "ContentType", unilog.ErrInvalidContentType},
		"NUL in a header":       {with(func(r *unilog.Record) { r.Headers = map[string]string{"h": "\x00"} }), "Headers", unilog.ErrInvalidText},
	} {
		t.Run(name, func(t *testing.T) {
			tx := w.Begin()
			err := unilog.Stage(w.Ctx, tx, ok, c.record)
			var refused *unilog.RecordError
			if !errors.As(err, &refused) || refused.Index != 1 || refused.Field != c.field || !errors.Is(err, c.err) {
				t.Errorf("Stage says %.200v; want record 1, %s, %v", err, c.field, c.err)
			}
			// Nothing was sent, so the transaction is as good as before.
			w.Must(tx.Commit(w.Ctx))
		})
	}
	w.WantCount("staged", world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 0)
}

func TestLargestRecordsGoThrough(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	largest := strings.Repeat("[1,", 1000) + strings.Repeat("1,", unilog.MaxRecordBytes/2-2010) + "1" + strings.Repeat("]", 1000)
	for _, data := range []string{`1`, largest, `1e131071`, `[` + strings.Repeat("1e100000,", 10) + `1e-16383]`, `"\ud83d\ude80\\u0000"`} {
		w.Must(unilog.Stage(w.Ctx, w.DB, unilog.Record{Action: "a", Object: "o", Data: json.RawMessage(data)}))
	}
	w.Must(unilog.Stage(w.Ctx, w.DB, unilog.Record{Action: "a", Object: "o", ContentType: "b", Body: make([]byte, unilog.MaxRecordBytes-3)}))
	w.WantCount("published", w.Drain(w.Streamer()), 6)
	applied := 0
	w.Consume(w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = world.CountEntries(&applied)
	}))
	w.WantCount("applied", applied, 6)
}

// TestTableTakesWhatEveryLogCarries stages by plain SQL, also what Postgres keeps in far
// fewer bytes than it writes.
func TestTableTakesWhatEveryLogCarries(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`CREATE TABLE kept AS SELECT jsonb_agg(10::numeric ^ 131071) AS data FROM generate_series(1, 200)`) // compressed
	takes := func(name, sql string, fits bool) {
		t.Helper()
		_, err := w.DB.Exec(w.Ctx, sql, unilog.MaxStoredBytes)
		if refused := postgres.SQLState(err) == "23514"; refused == fits || (err == nil) != fits {
			t.Errorf("%s: %.200v", name, err)
		}
	}
	for _, c := range []struct {
		name, values string
		fits         bool
	}{
		{"data at the limit", `'a', 'o', '', to_jsonb(repeat('x', $1 - 4)), NULL`, true},
		{"data over it", `'a', 'o', '', to_jsonb(repeat('x', $1 - 3)), NULL`, false},
		{"headers at the limit", `'a', 'o', 'k', '1', jsonb_build_object('h', repeat('<', $1 - 13))`, true},
		{"headers over it", `'a', 'o', 'k', '1', jsonb_build_object('h', repeat('<', $1 - 12))`, false},
		{"a key at the limit", `'a', 'o', repeat('k', $1 - 3), '1', NULL`, true},
		{"a key over it", `'a', 'o', repeat('k', $1 - 2), '1', NULL`, false},
		{"long numbers and a long key", `'a', 'o', repeat('k', $1 / 2), (SELECT jsonb_agg(10::numeric ^ 131071) FROM generate_series(1, 13)), NULL`, false},
		{"numbers with zeros after the point", `'a', 'o', '', (SELECT jsonb_agg(round(10::numeric ^ 131071, 16383)) FROM generate_series(1, 15)), NULL`, false},
		{"numbers from another table", `'a', 'o', '', (SELECT data FROM kept), NULL`, false},
	} {
		takes(c.name, `INSERT INTO unilog.staged_records (action, object, key, data, headers) SELECT `+c.values+` WHERE $1::integer > 0`, c.fits)
	}
	for _, c := range []struct {
		name, values string // of data, headers, body and content_type
		fits         bool
	}{
		{"a body", `NULL, NULL, '\x0080', 'a/b'`, true},
		{"an empty body", `NULL, NULL, '', 'a/b'`, true},
		{"a body at the limit", `NULL, '{}', convert_to(repeat('x', $1 - 7), 'UTF8'), 'a/b'`, true},
		{"a body over it", `NULL, '{}', convert_to(repeat('x', $1 - 6), 'UTF8'), 'a/b'`, false},
		{"a body with headers that are no object", `NULL, '[]', '\x00', 'a/b'`, false},
		{"nothing at all", `NULL, NULL, NULL, NULL`, false},
		{"headers alone", `NULL, '{}', NULL, NULL`, false},
		{"a body of no type", `NULL, NULL, '\x00', NULL`, false},
		{"a type of no body", `NULL, NULL, NULL, 'a/b'`, false},
		{"data and a body", `'1', NULL, '\x00', 'a/b'`, false},
		{"data and a body of no type", `'1', NULL, '\x00', NULL`, false},
		{"data of a type", `'1', NULL, NULL, 'a/b'`, false},
		{"an empty type", `NULL, NULL, '\x00', ''`, false},
		{"a type as long as it may be", `NULL, NULL, '\x00', repeat(' ~', 127) || 'x'`, true},
		{"a type that is longer", `NULL, NULL, '\x00', repeat('~', 256)`, false},
		{"a type on two lines", `NULL, NULL, '\x00', E'a/b\nc: d'`, false},
		{"a type that ends a line", `NULL, NULL, '\x00', E'a/b\n'`, false},
		{"a type beyond ASCII", `NULL, NULL, '\x00', 'a/ü'`, false},
	} {
		takes(c.name, `INSERT INTO unilog.staged_records (action, object, data, headers, body, content_type) SELECT 'a', 'o', `+c.values+` WHERE $1::integer > 0`, c.fits)
	}
	w.Exec(`TRUNCATE unilog.staged_records`)
}

// TestStageAcceptsWhatPostgresTakes compares the check of documents with what
// Postgres really takes: whatever Stage lets through must be storable.
func TestStageAcceptsWhatPostgresTakes(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	rapid.Check(t, func(rt *rapid.T) {
		doc := jsonDocument(2).Draw(rt, "document")
		size, err := unilog.StoredJSONSize([]byte(doc))
		if err != nil {
			rt.Skip("refused before it is sent")
		}
		var stored int
		if err := w.DB.QueryRow(w.Ctx, `SELECT octet_length($1::text::jsonb::text)`, doc).Scan(&stored); err != nil {
			rt.Fatalf("Postgres refuses %q: %v", doc, err)
		}
		// Postgres adds a space after each comma and colon, no more.
		if stored > size+strings.Count(doc, ",")+strings.Count(doc, ":") {
			rt.Fatalf("Postgres stores %q in %d bytes, reckoned were %d", doc, stored, size)
		}
	})
}

// jsonDocument makes JSON that is often at the edge of what can be stored.
func jsonDocument(depth int) *rapid.Generator[string] {
	text := rapid.OneOf(
		rapid.StringMatching(`"([a-z ]|\\u00[0-9a-f]{2}|\\ud83d\\ude00|\\ud[89a-f]0[0-9]|\\[nt"\\/]|ü){0,5}"`),
	)
	number := rapid.StringMatching(`-?(0|[1-9][0-9]{0,6})(\.[0-9]{1,6})?([eE][+-]?(0|[1-9][0-9]{0,2}|1310[67][0-9]|1638[0-9]))?`)
	leaf := rapid.OneOf(text, number, rapid.SampledFrom([]string{"true", "null", "{}", "[]", "0e99999", "1e131071"}))
	if depth == 0 {
		return leaf
	}
	inner := jsonDocument(depth - 1)
	return rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 2).Draw(t, "kind") {
		case 0:
			return "[" + strings.Join(rapid.SliceOfN(inner, 0, 3).Draw(t, "items"), ",") + "]"
		case 1:
			return "{" + text.Draw(t, "name") + ":" + inner.Draw(t, "value") + "}"
		}
		return leaf.Draw(t, "leaf")
	})
}

// TestBarriersCannotBeStaged sees that nobody else writes what the log does.
func TestBarriersCannotBeStaged(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	tx := w.Begin()
	err := unilog.Stage(w.Ctx, tx, unilog.Record{Action: "repartition", Object: "unilog", Data: json.RawMessage(`{}`)})
	if !errors.Is(err, unilog.ErrReserved) {
		t.Errorf("staged: %v", err)
	}
	if _, err := tx.Exec(w.Ctx, `INSERT INTO unilog.staged_records (action, object, data) VALUES ('a', 'unilog', '{}')`); err == nil {
		t.Error("inserted")
	}
}

// BenchmarkStage stages a thousand records in a transaction of their own.
func BenchmarkStage(b *testing.B) {
	w := world.Setup(b)
	benchmarkStage(b, w, func(ctx context.Context, records ...unilog.Record) error {
		return unilog.Stage(ctx, w.DB, records...)
	})
}

func benchmarkStage(b *testing.B, w *world.World, stage func(ctx context.Context, records ...unilog.Record) error) {
	records := make([]unilog.Record, 1000)
	for i := range records {
		records[i] = world.Record("123.45")
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Must(stage(w.Ctx, records...))
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
	w.Exec(`TRUNCATE unilog.staged_records`)
}
