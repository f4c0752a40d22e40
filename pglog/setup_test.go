package pglog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/url"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	fixtures "github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a source's database and the log in it. Consumers note what they apply,
// once per offset.
type world struct {
	testing.TB
	ctx context.Context
	db  *pgxpool.Pool
	log *pglog.Log
}

const sqlApplied = `
CREATE TABLE applied (
    n bigint GENERATED ALWAYS AS IDENTITY,
    name text, "offset" bigint, data jsonb,
    PRIMARY KEY (name, "offset")
)`

func migrate(ctx context.Context, pool *pgxpool.Pool, sets ...migration.Set) error {
	if err := migration.Up(ctx, pool, sets...); err != nil {
		return err
	}
	_, err := pool.Exec(ctx, sqlApplied)
	return err
}

func setup(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: t.Context()}
	w.db = testenv.Database(t, "source", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migrate(ctx, pool, migration.Log, migration.Consumer)
	})
	w.log = w.open(w.db)
	return w
}

// elsewhere is another database, for a consumer's state.
func (w *world) elsewhere() *pgxpool.Pool {
	return testenv.Database(w, "elsewhere", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migrate(ctx, pool, migration.Consumer)
	})
}

func (w *world) open(pool *pgxpool.Pool) *pglog.Log {
	w.Helper()
	log, err := pglog.Open(w.ctx, pool, "")
	w.must(err)
	w.Cleanup(log.Close)
	return log
}

// reader is a pool on the source's database of a user who may do no more than a
// reader must.
func (w *world) reader() *pgxpool.Pool {
	w.Helper()
	role := "reader_" + query[string](w, w.db, `SELECT current_database()`)
	for _, sql := range []string{
		"CREATE ROLE " + role + " LOGIN",
		"GRANT USAGE ON SCHEMA unilog TO " + role,
		"GRANT SELECT ON unilog.batches, unilog.partitions, unilog.log TO " + role,
	} {
		w.exec(sql)
	}
	w.Cleanup(func() {
		_, err := w.db.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		w.must(err)
	})
	u, err := url.Parse(w.db.Config().ConnString())
	w.must(err)
	u.User = url.User(role)
	pool, err := pgxpool.New(w.ctx, u.String())
	w.must(err)
	testenv.ClosePool(w, pool)
	return pool
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) exec(sql string, args ...any) {
	w.Helper()
	_, err := w.db.Exec(w.ctx, sql, args...)
	w.must(err)
}

// query returns the one value that a query selects.
func query[T any](w *world, db *pgxpool.Pool, sql string, args ...any) T {
	w.Helper()
	rows, err := db.Query(w.ctx, sql, args...)
	w.must(err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	w.must(err)
	return v
}

func record(n int) unilog.Record {
	return unilog.Record{Action: "note", Object: "number", Data: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}
}

// stage commits records in one transaction.
func (w *world) stage(first, last int) {
	w.Helper()
	var records []unilog.Record
	for n := first; n <= last; n++ {
		records = append(records, record(n))
	}
	w.must(unilog.Stage(w.ctx, w.db, records...))
}

var quiet = slog.New(slog.DiscardHandler)

func (w *world) streamer(change ...func(*streamer.Config)) *streamer.Streamer {
	w.Helper()
	cfg := streamer.Config{DB: w.db, Log: w.log, Logger: quiet, SessionTimeout: await.Patience}
	for _, f := range change {
		f(&cfg)
	}
	s, err := streamer.New(cfg)
	w.must(err)
	return s
}

func (w *world) consumer(name string, change ...func(*consumer.Config)) *consumer.Consumer {
	w.Helper()
	cfg := consumer.Config{
		Name: name, DB: w.db, Archive: w.db, Log: w.log, Logger: quiet,
		Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
			_, err := tx.Exec(ctx, `INSERT INTO applied (name, "offset", data) VALUES ($1, $2, $3)`, name, e.Offset, e.Data)
			return err
		}),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := consumer.New(cfg)
	w.must(err)
	return c
}

// run runs something until stop is called, or the test ends.
func (w *world) run(run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() {
		if err := run(ctx); err != nil {
			w.Errorf("it stopped: %v", err)
		}
	})
	stop = func() { cancel(); work.Wait() }
	w.Cleanup(stop)
	return stop
}

// drain streams until nothing is left.
func (w *world) drain(s *streamer.Streamer) {
	w.Helper()
	fixtures.Bare(w.TB, w.db).Drain(s)
}

func (w *world) applied(db *pgxpool.Pool, name string) int {
	w.Helper()
	return query[int](w, db, `SELECT count(*) FROM applied WHERE name = $1`, name)
}

// checkApplied sees that a consumer has applied the whole log, in its order.
func (w *world) checkApplied(db *pgxpool.Pool, name string) {
	w.Helper()
	read := func(db *pgxpool.Pool, sql string, args ...any) []string {
		rows, err := db.Query(w.ctx, sql, args...)
		w.must(err)
		texts, err := pgx.CollectRows(rows, pgx.RowTo[string])
		w.must(err)
		return texts
	}
	want := read(w.db, `SELECT "offset" || ' ' || data FROM unilog.records ORDER BY "offset"`)
	got := read(db, `SELECT "offset" || ' ' || data FROM applied WHERE name = $1 ORDER BY n`, name)
	if len(got) != len(want) {
		w.Errorf("%s has applied %d records of %d", name, len(got), len(want))
		return
	}
	for i := range want {
		if got[i] != want[i] {
			w.Errorf("%s has applied %s in place of %s", name, got[i], want[i])
			return
		}
	}
}

// listening are the sessions that wait for what is published.
const listening = `datname = current_database() AND query = 'LISTEN "unilog:published"' AND state = 'idle'`

func (w *world) listeners() int {
	w.Helper()
	return query[int](w, w.db, `SELECT count(*) FROM pg_stat_activity WHERE `+listening)
}
