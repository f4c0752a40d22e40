package unilogtest_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/unilogtest"
)

func TestMain(m *testing.M) {
	server, _, err := testenv.URLs()
	if err == nil {
		err = os.Setenv("UNILOG_TEST_DATABASE_URL", server)
	}
	if err != nil {
		panic(err)
	}
	testenv.Main(m)
}

func record(key, data string) unilog.Record {
	return unilog.Record{Action: "create", Object: "order", Key: key, Data: []byte(data)}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// failing is a test that is let fail.
type failing struct {
	testing.TB
	said string
}

func (f *failing) Helper() {}

func (f *failing) Fatalf(format string, args ...any) {
	f.said = fmt.Sprintf(format, args...)
	panic(f)
}

func (f *failing) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

// says is what a test says that fails, "" if it does not.
func says(t *testing.T, f func(testing.TB)) string {
	t.Helper()
	test := &failing{TB: t}
	func() {
		defer func() {
			if p := recover(); p != nil && p != test {
				panic(p)
			}
		}()
		f(test)
	}()
	return test.said
}

func database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	db := unilogtest.Database(t)
	_, err := db.Exec(t.Context(), `CREATE TABLE handled (key text, cents text)`)
	must(t, err)
	return db
}

// handle stages a record of its own for each order.
func handle(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
	if string(e.Data) == `"poison"` {
		return errors.New("poison")
	}
	_, err := tx.Exec(ctx, `INSERT INTO handled VALUES ($1, $2)`, e.Key, string(e.Data))
	if err == nil && e.Object == "order" {
		receipt := record(e.Key, `{}`)
		receipt.Object = "receipt"
		err = unilog.Stage(ctx, tx, receipt)
	}
	return err
}

func handled(t *testing.T, q unilogtest.Querier) string {
	t.Helper()
	rows, err := q.Query(t.Context(), `SELECT coalesce(string_agg(key || ' ' || cents, ', ' ORDER BY key, cents), '') FROM handled`)
	must(t, err)
	text, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
	must(t, err)
	return text
}

func TestStagedIsTheTransactionsOwn(t *testing.T) {
	t.Parallel()
	db := database(t)
	ctx := t.Context()
	must(t, unilog.Stage(ctx, db, record("before", `1`)))
	tx := unilogtest.Begin(t, db)
	unilogtest.RequireStaged(t, tx)
	must(t, unilog.Stage(ctx, tx, record("a", `{"b": 1, "a": 1e2}`)))
	savepoint, err := tx.Begin(ctx)
	must(t, err)
	must(t, unilog.Stage(ctx, savepoint, record("b", `2`)))
	unilogtest.RequireStaged(t, savepoint, record("a", `{"a":100,"b":1}`), record("b", `2`))
	must(t, savepoint.Commit(ctx))
	undone, err := tx.Begin(ctx)
	must(t, err)
	must(t, unilog.Stage(ctx, undone, record("undone", `3`)))
	must(t, undone.Rollback(ctx))
	others := unilogtest.Begin(t, db)
	must(t, unilog.Stage(ctx, others, record("others", `4`)))
	must(t, unilog.Stage(ctx, db, record("meanwhile", `5`)))
	with := record("c", `6`)
	with.Headers = map[string]string{"traceparent": "00"}
	with.Data, with.Body, with.ContentType = nil, []byte("\x006"), "a/b"
	must(t, unilog.Stage(ctx, tx, with))

	a, b := record("a", `{"a": 100, "b": 1}`), record("b", `2`)
	unilogtest.RequireStaged(t, tx, a, b, with)
	unilogtest.RequireStaged(t, others, record("others", `4`))
	unilogtest.RequireStaged(t, db, record("before", `1`), record("meanwhile", `5`))

	wrong := record("b", `3`)
	got := says(t, func(t testing.TB) { unilogtest.RequireStaged(t, tx, a, wrong, with) })
	want := "(- wanted, + staged):\n" +
		"    order/create \"a\" {\"a\": 100, \"b\": 1}\n" +
		"  - order/create \"b\" 3\n" +
		"  + order/create \"b\" 2\n" +
		"    order/create \"c\" a/b \"\\x006\" traceparent=\"00\"\n"
	if !strings.HasSuffix(got, want) {
		t.Errorf("it says\n%s\nwant\n%s", got, want)
	}
	for missing, wants := range map[string][]unilog.Record{
		"+ order/create \"c\"": {a, b},
		"- order/create \"b\"": {a, b, b, with},
		"the data of record 1": {a, {}},
	} {
		if got := says(t, func(t testing.TB) { unilogtest.RequireStaged(t, tx, wants...) }); !strings.Contains(got, missing) {
			t.Errorf("of %d wanted records it says %q, want %s", len(wants), got, missing)
		}
	}
}

func TestStagedBySQL(t *testing.T) {
	t.Parallel()
	pool := database(t)
	db, err := sql.Open("pgx", pool.Config().ConnString())
	must(t, err)
	defer db.Close()
	tx, err := db.BeginTx(t.Context(), nil)
	must(t, err)
	a, b := record("a", `{"n":  1}`), record("b", "")
	b.Data, b.Body, b.ContentType = nil, []byte{0, 1}, "a/b"
	must(t, unilog.StageSQL(t.Context(), tx, a, b))
	must(t, unilog.Stage(t.Context(), pool, record("meanwhile", `2`)))
	unilogtest.RequireStagedSQL(t, tx, a, b)
	unilogtest.RequireStagedSQL(t, db, record("meanwhile", `2`))
	if got := says(t, func(t testing.TB) { unilogtest.RequireStagedSQL(t, tx, b) }); !strings.Contains(got, `+ order/create "a" {"n": 1}`) {
		t.Errorf("it says %s", got)
	}
	must(t, tx.Rollback())

	handler := consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO handled VALUES ($1, $2)`, entries[0].Key, string(entries[0].Data))
		return err
	})
	applied := unilogtest.Begin(t, pool)
	must(t, unilogtest.Apply(t.Context(), applied, handler, a))
	if got := handled(t, applied); got != `a {"n": 1}` {
		t.Errorf("in the transaction is %s", got)
	}
}

func TestApplyLeavesNothing(t *testing.T) {
	t.Parallel()
	db := database(t)
	tx := unilogtest.Begin(t, db)
	must(t, unilogtest.Apply(t.Context(), tx, consumer.Each(handle), record("a", `{"n":1}`), record("b", `2`)))
	if got := handled(t, tx); got != `a {"n": 1}, b 2` {
		t.Errorf("in the transaction are %s", got)
	}
	receipt := func(key string) unilog.Record {
		return unilog.Record{Action: "create", Object: "receipt", Key: key, Data: []byte(`{}`)}
	}
	unilogtest.RequireStaged(t, tx, receipt("a"), receipt("b"))

	if err := unilogtest.Apply(t.Context(), tx, consumer.Each(handle), record("c", `3`), record("d", `"poison"`)); err == nil || err.Error() != "poison" {
		t.Errorf("a handler that rejects a record gives %v", err)
	}
	if err := unilogtest.Apply(t.Context(), tx, consumer.Each(handle), record("e", `no JSON`)); !errors.As(err, new(*unilog.RecordError)) {
		t.Errorf("a record that cannot be staged gives %v", err)
	}
	if err := unilogtest.Apply(t.Context(), tx, consumer.Each(handle)); err == nil {
		t.Error("no records give no error")
	}
	if got := handled(t, tx); got != `a {"n": 1}, b 2` {
		t.Errorf("after an error there are %s in the transaction", got)
	}
	must(t, tx.Rollback(t.Context()))
	if got := handled(t, db); got != "" {
		t.Errorf("after the rollback there is %s", got)
	}
	unilogtest.RequireStaged(t, db)
}

// TestDrainAppliesAllThatIsStaged lets a handler stage records, for another consumer and
// for itself.
func TestDrainAppliesAllThatIsStaged(t *testing.T) {
	t.Parallel()
	db := database(t)
	n := 0
	all := consumer.Config{Name: "all", Handler: consumer.Each(handle)}
	selective := consumer.Config{Name: "receipts", Only: []unilog.Kind{{Object: "receipt"}}, Handler: func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
		n += len(entries)
		return nil
	}}
	must(t, unilog.Stage(t.Context(), db, record("a", `1`), record("b", `2`)))
	for range 2 { // the second time there is nothing new
		unilogtest.Drain(t, db, all, selective)
		if got := handled(t, db); got != "a 1, a {}, b 2, b {}" || n != 2 {
			t.Errorf("one consumer has applied %s, the other one %d receipts", got, n)
		}
	}
	unilogtest.RequireStaged(t, db)
	must(t, unilog.Stage(t.Context(), db, record("c", `"poison"`)))
	if got := says(t, func(t testing.TB) { unilogtest.Drain(t, db, all) }); !strings.Contains(got, "rejected the record: poison") {
		t.Errorf("a record that is rejected: %s", got)
	}
}

// late is a log whose first answer comes too late.
type late struct {
	unilog.Log
	asked *int
}

func (l late) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if *l.asked++; *l.asked == 1 {
		return nil, context.DeadlineExceeded
	}
	return l.Log.Read(ctx, partition, after, limit, wait)
}

// TestDrainWaitsForASlowServer and not for a handler whose own time is over.
func TestDrainWaitsForASlowServer(t *testing.T) {
	t.Parallel()
	db := database(t)
	log, err := pglog.Open(t.Context(), db, unilog.DefaultSchema)
	must(t, err)
	t.Cleanup(log.Close)
	must(t, unilog.Stage(t.Context(), db, record("a", `1`)))
	unilogtest.Drain(t, db, consumer.Config{Log: late{log, new(int)}, Handler: consumer.Each(handle)})
	if got := handled(t, db); got != "a 1, a {}" {
		t.Errorf("it has applied %s", got)
	}
	must(t, unilog.Stage(t.Context(), db, record("b", `2`)))
	tooLong := consumer.Each(func(context.Context, pgx.Tx, unilog.Entry) error { return context.DeadlineExceeded })
	if got := says(t, func(t testing.TB) { unilogtest.Drain(t, db, consumer.Config{Handler: tooLong}) }); !strings.Contains(got, "rejected the record") {
		t.Errorf("of a handler that takes too long it says %q", got)
	}
}

func TestDatabaseSaysWhatIsMissing(t *testing.T) {
	server := os.Getenv("UNILOG_TEST_DATABASE_URL")
	for want, set := range map[string][2]string{
		"set UNILOG_TEST_DATABASE_URL to a Postgres": {},
		"the server of UNILOG_TEST_DATABASE_URL: ":   {"postgres://127.0.0.1:1/postgres", server},
		"the server of DATABASE_URL: ":               {"", "postgres://127.0.0.1:1/postgres"},
	} {
		t.Setenv("UNILOG_TEST_DATABASE_URL", set[0])
		t.Setenv("DATABASE_URL", set[1])
		if got := says(t, func(t testing.TB) { unilogtest.Database(t) }); !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("it says %q, want %s", got, want)
		}
	}
	t.Setenv("UNILOG_TEST_DATABASE_URL", "")
	t.Setenv("DATABASE_URL", server)
	unilogtest.Drain(t, unilogtest.Database(t))
}
