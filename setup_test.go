package unilog_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a database and a stream of a test's own. Writers note amounts, and
// consumers add them up.
type world struct {
	tb
	ctx    context.Context
	db     *pgxpool.Pool
	log    *redislog.Log
	redis  rueidis.Client
	stream string
}

// tb is what tests and the cases of a property have in common.
type tb interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
	Cleanup(f func())
}

// The truth, and what consumers make of it. Table applied says in which order
// and would refuse to apply an offset twice.
const sqlWorld = `
CREATE TABLE amounts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount numeric NOT NULL);
CREATE TABLE sums (name text PRIMARY KEY, total numeric NOT NULL);
CREATE TABLE applied (
    n bigint GENERATED ALWAYS AS IDENTITY,
    name text, "offset" bigint, data jsonb,
    PRIMARY KEY (name, "offset")
);`

var audit = unilog.Audit{
	Truth:  `SELECT sum(amount) FROM amounts`,
	Totals: `SELECT name, total FROM sums`,
	Amount: `(data ->> 'amount')::numeric`,
	AddToTotal: `
		INSERT INTO sums AS s (name, total) VALUES ($1, $2::text::numeric)
		ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total`,
}

func migrateWorld(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
		return err
	}
	_, err := pool.Exec(ctx, sqlWorld)
	return err
}

// setup makes a world. When the test ends, the world must be in order.
func setup(t testing.TB) *world {
	t.Helper()
	w := &world{tb: t, ctx: t.Context(), stream: testenv.StreamName(t)}
	w.db = testenv.Database(t, "world", migrateWorld)
	url := testenv.SharedRedis(t)
	var err error
	w.log, err = redislog.Open(w.ctx, url, w.stream)
	w.must(err)
	t.Cleanup(w.log.Close)
	option, err := rueidis.ParseURL(url)
	w.must(err)
	option.DisableCache = true
	w.redis, err = rueidis.NewClient(option)
	w.must(err)
	t.Cleanup(w.redis.Close)
	t.Cleanup(func() {
		w.ctx = context.Background()
		if !t.Failed() {
			w.checkArchive()
			w.checkStream()
			w.checkAudit()
		}
	})
	return w
}

// bare returns a world of a database, with a stream's name and no log.
func bare(t testing.TB, db *pgxpool.Pool) *world {
	return &world{tb: t, ctx: t.Context(), db: db, stream: testenv.StreamName(t)}
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
func query[T any](w *world, sql string, args ...any) T {
	w.Helper()
	rows, err := w.db.Query(w.ctx, sql, args...)
	w.must(err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	w.must(err)
	return v
}

// command runs a Redis command.
func (w *world) command(args ...string) rueidis.RedisResult {
	w.Helper()
	result := w.redis.Do(w.ctx, w.redis.B().Arbitrary(args...).Build())
	if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		w.Fatal(err)
	}
	return result
}

// wipe loses the log whole, as FLUSHALL would.
func (w *world) wipe() {
	w.Helper()
	w.command("DEL", w.stream, "{"+w.stream+"}:leader")
}

func record(amount string) unilog.Record {
	return unilog.Record{Action: "note", Object: "amount", Data: json.RawMessage(`{"amount":` + amount + `}`)}
}

// note writes amounts and stages their records on a transaction.
func (w *world) note(tx pgx.Tx, amounts ...string) {
	w.Helper()
	for _, a := range amounts {
		_, err := tx.Exec(w.ctx, `INSERT INTO amounts (amount) VALUES ($1::text::numeric)`, a)
		w.must(err)
		w.must(unilog.Stage(w.ctx, tx, record(a)))
	}
}

// begin begins a transaction, which is rolled back if the test forgets it.
func (w *world) begin() pgx.Tx {
	w.Helper()
	tx, err := w.db.Begin(w.ctx)
	w.must(err)
	w.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// commit writes amounts in one committed transaction.
func (w *world) commit(amounts ...string) {
	w.Helper()
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		w.note(tx, amounts...)
		return nil
	}))
}

// commitMany writes n amounts of 1 in one committed transaction.
func (w *world) commitMany(n int) {
	w.Helper()
	records := make([]unilog.Record, n)
	for i := range records {
		records[i] = record("1")
	}
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(w.ctx, `INSERT INTO amounts (amount) SELECT 1 FROM generate_series(1, $1)`, n); err != nil {
			return err
		}
		return unilog.Stage(w.ctx, tx, records...)
	}))
}

var quiet = slog.New(slog.DiscardHandler)

// streamer makes one. A leader whose way to the database cannot fail is silent only
// because the test, or the machine, is slow: its session does not end for that.
func (w *world) streamer(change ...func(*unilog.StreamerConfig)) *unilog.Streamer {
	w.Helper()
	// However slow the machine is, a leader loses its session only where a test wants it to.
	cfg := unilog.StreamerConfig{DB: w.db, Log: w.log, Logger: quiet, SessionTimeout: await.Patience}
	for _, f := range change {
		f(&cfg)
	}
	s, err := unilog.NewStreamer(cfg)
	w.must(err)
	w.Cleanup(s.Close)
	return s
}

func (w *world) consumer(name string, change ...func(*unilog.ConsumerConfig)) *unilog.Consumer {
	w.Helper()
	cfg := unilog.ConsumerConfig{
		Name: name, DB: w.db, Archive: w.db, Log: w.log, Logger: quiet,
		Handler: unilog.Each(w.add(name)),
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := unilog.NewConsumer(cfg)
	w.must(err)
	return c
}

// add is the consumers' handler.
func (w *world) add(name string) func(context.Context, pgx.Tx, unilog.Entry) error {
	return func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
		_, err := tx.Exec(ctx, `INSERT INTO applied (name, "offset", data) VALUES ($1, $2, $3)`, name, e.Offset, e.Data)
		if err == nil {
			_, err = tx.Exec(ctx, `
				INSERT INTO sums AS s VALUES ($1, ($2::jsonb ->> 'amount')::numeric)
				ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total`, name, e.Data)
		}
		return err
	}
}

// drain streams until nothing is left, going on after simulated failures.
func (w *world) drain(s *unilog.Streamer) (n int) {
	w.Helper()
	return w.repeat(s.RunOnce)
}

// consume applies until nothing is left.
func (w *world) consume(c *unilog.Consumer) (n int) {
	w.Helper()
	return w.repeat(c.RunOnce)
}

func (w *world) repeat(once func(context.Context) (int, error)) (total int) {
	w.Helper()
	for progress := time.Now(); ; {
		n, err := once(w.ctx)
		switch {
		case errors.Is(err, unilog.ErrSimulated) && time.Since(progress) < await.Patience:
			continue
		case err != nil:
			w.Fatal(err)
		case n == 0:
			return total
		}
		total += n
		progress = time.Now()
	}
}

// endOf runs what ends by itself, or when ctx does, and returns how.
func (w *world) endOf(ctx context.Context, run func(context.Context) error) error {
	w.Helper()
	ctx, cancel := context.WithTimeout(ctx, await.Patience)
	defer cancel()
	err := run(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.Fatal(fmt.Sprintf("it has not ended after %v: %v", await.Patience, err))
	}
	return err
}

// awaitThat waits until something holds that another goroutine brings about.
func (w *world) awaitThat(what string, holds func() bool) {
	w.Helper()
	await.True(waiting{tb: w.tb}, what, holds)
}

// waiting is what waits in a test, or in a case of a property.
type waiting struct {
	testing.TB
	tb tb
}

func (t waiting) Helper() { t.tb.Helper() }

func (t waiting) Fatalf(format string, args ...any) {
	t.tb.Helper()
	t.tb.Fatal(fmt.Sprintf(format, args...))
}

// streamIDs returns the ids of the stream's entries.
func (w *world) streamIDs() []string {
	w.Helper()
	entries, err := w.command("XRANGE", w.stream, "-", "+").AsXRange()
	w.must(err)
	ids := make([]string, len(entries))
	for i, e := range entries {
		ids[i] = e.ID
	}
	return ids
}

// checkArchive sees that offsets have no gaps.
func (w *world) checkArchive() {
	w.Helper()
	gaps := query[int](w, `
		SELECT count(*) FROM (SELECT "offset" - lag("offset") OVER (PARTITION BY partition ORDER BY "offset") AS step FROM log_records) AS r
		WHERE step <> 1`)
	last := query[int64](w, `SELECT coalesce(max("offset"), 0) FROM log_records WHERE partition = 0`)
	next := query[int64](w, `SELECT next_offset FROM log_partitions WHERE partition = 0`)
	if gaps != 0 || last != 0 && last != next-1 {
		w.Errorf("the archive has %d gaps and ends at %d, before next_offset %d", gaps, last, next)
	}
}

// checkStream sees that the stream's ids follow each other.
func (w *world) checkStream() {
	w.Helper()
	ids := w.streamIDs()
	for i, id := range ids {
		var offset, first int64
		_, err := fmt.Sscanf(id, "%d-0", &offset)
		w.must(err)
		_, err = fmt.Sscanf(ids[0], "%d-0", &first)
		w.must(err)
		if offset != first+int64(i) {
			w.Errorf("stream entry number %d has the id %s, the first one %s", i, id, ids[0])
			return
		}
	}
}

// checkAudit sees that every consumer agrees with the database.
func (w *world) checkAudit() {
	w.Helper()
	balances, err := audit.Check(w.ctx, w.db)
	w.must(err)
	for _, b := range balances {
		if !b.Agrees {
			w.Errorf("%s disagrees: %+v", b.Consumer, b)
		}
	}
}

// total is what a consumer has added up.
func (w *world) total(name string) string {
	w.Helper()
	return query[string](w, `SELECT coalesce((SELECT total FROM sums WHERE name = $1), 0)::text`, name)
}

func (w *world) wantTotal(name, want string) {
	w.Helper()
	if got := w.total(name); got != want {
		w.Errorf("the total of %s is %s, want %s", name, got, want)
	}
}

func (w *world) wantCount(what string, got, want int) {
	w.Helper()
	if got != want {
		w.Errorf("%s: %d, want %d", what, got, want)
	}
}
