package world

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
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// World is a database and a log of a test's own. Writers note amounts, and
// consumers add them up.
type World struct {
	TB
	Ctx context.Context
	DB  *pgxpool.Pool
	Log unilog.Log
	// Memory is the log of Setup. It is nil if the log is in Redis.
	Memory *logtest.Memory
	// Redis holds the log in a stream of this name. It is nil if the log is in memory.
	Redis  rueidis.Client
	Stream string
}

// tb is what tests and the cases of a property have in common.
type TB interface {
	Helper()
	Fatal(args ...any)
	Errorf(format string, args ...any)
	Failed() bool
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

// SQLAmount is the amount of a record, as text, over its columns.
const SQLAmount = `coalesce(data ->> 'amount', convert_from(substr(body, 3), 'UTF8'))`

var Audit = audit.Equation{
	Truth:  `SELECT sum(amount) FROM amounts`,
	Totals: `SELECT name, total FROM sums`,
	Amount: SQLAmount + `::numeric`,
	AddToTotal: `
		INSERT INTO sums AS s (name, total) VALUES ($1, $2::text::numeric)
		ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total`,
}

func MigrateWorld(ctx context.Context, pool *pgxpool.Pool) error {
	if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
		return err
	}
	_, err := pool.Exec(ctx, sqlWorld)
	return err
}

// Setup makes a world whose log is in memory, for a test that is not about a broker.
// What the documents name as the evidence of a claim uses [SetupOnRedis]. When the
// test ends, the world must be in order.
func Setup(t testing.TB) *World {
	t.Helper()
	memory := logtest.NewMemory()
	w := &World{TB: t, Ctx: t.Context(), Log: memory, Memory: memory}
	w.DB = testenv.Database(t, "world", MigrateWorld)
	w.checkAtTheEnd(t)
	return w
}

// SetupOnRedis makes a world whose log is in Redis. When the test ends, the world must
// be in order.
func SetupOnRedis(t testing.TB) *World {
	t.Helper()
	w := SetupOn(t, testenv.Database(t, "world", MigrateWorld), testenv.SharedRedis(t))
	w.checkAtTheEnd(t)
	return w
}

func (w *World) checkAtTheEnd(t testing.TB) {
	t.Cleanup(func() {
		w.Ctx = context.Background()
		if !t.Failed() {
			w.CheckArchive()
			w.CheckLog()
			w.CheckAudit()
		}
	})
}

// Bare returns a world of a database, with a stream's name and no log.
func Bare(t testing.TB, db *pgxpool.Pool) *World {
	return &World{TB: t, Ctx: t.Context(), DB: db, Stream: testenv.StreamName(t)}
}

func (w *World) Must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *World) Exec(sql string, args ...any) {
	w.Helper()
	_, err := w.DB.Exec(w.Ctx, sql, args...)
	w.Must(err)
}

// Query returns the one value that a query selects.
func Query[T any](w *World, sql string, args ...any) T {
	w.Helper()
	rows, err := w.DB.Query(w.Ctx, sql, args...)
	w.Must(err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	w.Must(err)
	return v
}

func Record(amount string) unilog.Record {
	return unilog.Record{Action: "note", Object: "amount", Data: json.RawMessage(`{"amount":` + amount + `}`)}
}

// Note writes amounts and stages their records on a transaction.
func (w *World) Note(tx pgx.Tx, amounts ...string) { w.noteAs(Record, tx, amounts) }

func (w *World) noteAs(record func(amount string) unilog.Record, tx pgx.Tx, amounts []string) {
	w.Helper()
	for _, a := range amounts {
		_, err := tx.Exec(w.Ctx, `INSERT INTO amounts (amount) VALUES ($1::text::numeric)`, a)
		w.Must(err)
		w.Must(unilog.Stage(w.Ctx, tx, record(a)))
	}
}

// Begin begins a transaction, which is rolled back if the test forgets it.
func (w *World) Begin() pgx.Tx {
	w.Helper()
	tx, err := w.DB.Begin(w.Ctx)
	w.Must(err)
	w.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// Commit writes amounts in one committed transaction.
func (w *World) Commit(amounts ...string) {
	w.Helper()
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		w.Note(tx, amounts...)
		return nil
	}))
}

// CommitMany writes n amounts of 1 in one committed transaction.
func (w *World) CommitMany(n int) {
	w.Helper()
	records := make([]unilog.Record, n)
	for i := range records {
		records[i] = Record("1")
	}
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(w.Ctx, `INSERT INTO amounts (amount) SELECT 1 FROM generate_series(1, $1)`, n); err != nil {
			return err
		}
		return unilog.Stage(w.Ctx, tx, records...)
	}))
}

var quiet = slog.New(slog.DiscardHandler)

// Streamer makes one. A leader whose way to the database cannot fail is silent only
// because the test, or the machine, is slow: its session does not end for that.
func (w *World) Streamer(change ...func(*streamer.Config)) *streamer.Streamer {
	w.Helper()
	// However slow the machine is, a leader loses its session only where a test wants it to.
	cfg := streamer.Config{DB: w.DB, Log: w.Log, Logger: quiet, SessionTimeout: await.Patience}
	for _, f := range change {
		f(&cfg)
	}
	s, err := streamer.New(cfg)
	w.Must(err)
	w.Cleanup(s.Close)
	return s
}

func (w *World) Consumer(name string, change ...func(*consumer.Config)) *consumer.Consumer {
	w.Helper()
	cfg := consumer.Config{
		Name: name, DB: w.DB, Archive: w.DB, Log: w.Log, Logger: quiet,
		Handler: consumer.Each(w.Add(name)), HandlerTimeout: await.Patience,
	}
	for _, f := range change {
		f(&cfg)
	}
	c, err := consumer.New(cfg)
	w.Must(err)
	return c
}

// Add is the consumers' handler.
func (w *World) Add(name string) func(context.Context, pgx.Tx, unilog.Entry) error {
	return func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
		_, err := tx.Exec(ctx, `INSERT INTO applied (name, "offset", data) VALUES ($1, $2, $3)`, name, e.Offset, data(&e.Record))
		if err == nil {
			_, err = tx.Exec(ctx, `
				INSERT INTO sums AS s VALUES ($1, ($2::jsonb ->> 'amount')::numeric)
				ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total`, name, data(&e.Record))
		}
		return err
	}
}

// Drain streams until nothing is left, going on after simulated failures. It returns how
// many records were published. If a call took too long, the next term may have sent some
// again: then it goes by what the database knows.
func (w *World) Drain(s *streamer.Streamer) (n int) {
	w.Helper()
	const published = `SELECT coalesce(sum(published_offset), 0)::int FROM unilog.partitions`
	before, slow := Query[int](w, published), false
	n = w.Repeat(func(ctx context.Context) (int, error) {
		n, err := s.RunOnce(ctx)
		slow = slow || IsSlow(err)
		return n, err
	})
	if slow {
		n = Query[int](w, published) - before
	}
	return n
}

// Consume applies until nothing is left.
func (w *World) Consume(c *consumer.Consumer) (n int) {
	w.Helper()
	return w.Repeat(c.RunOnce)
}

// Repeat calls what does a part of the work until nothing is left. A call that takes too
// long is made again: of a slow machine it says nothing, and one that hangs will again. A
// session that was given up, or closed, may have its locks for a while.
func (w *World) Repeat(once func(context.Context) (int, error)) (total int) {
	w.Helper()
	for progress := time.Now(); ; {
		n, err := once(w.Ctx)
		switch hopeful := time.Since(progress) < await.Patience; {
		case hopeful && errors.Is(err, unilog.ErrSimulated):
			continue
		case hopeful && (IsSlow(err) || errors.Is(err, unilog.ErrStandby)):
			total += n
			time.Sleep(10 * time.Millisecond)
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

// EndOf runs what ends by itself, or when ctx does, and returns how.
func (w *World) EndOf(ctx context.Context, run func(context.Context) error) error {
	w.Helper()
	ctx, cancel := context.WithTimeout(ctx, await.Patience)
	defer cancel()
	err := run(ctx)
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		w.Fatal(fmt.Sprintf("it has not ended after %v: %v", await.Patience, err))
	}
	return err
}

// AwaitThat waits until something holds that another goroutine brings about.
func (w *World) AwaitThat(what string, holds func() bool) {
	w.Helper()
	await.True(waiting{tb: w.TB}, what, holds)
}

// waiting is what waits in a test, or in a case of a property.
type waiting struct {
	testing.TB
	tb TB
}

func (t waiting) Helper() { t.tb.Helper() }

func (t waiting) Fatalf(format string, args ...any) {
	t.tb.Helper()
	t.tb.Fatal(fmt.Sprintf(format, args...))
}

// CheckArchive sees that offsets have no gaps.
func (w *World) CheckArchive() {
	w.Helper()
	gaps := Query[int](w, `
		SELECT count(*) FROM (SELECT "offset" - lag("offset") OVER (PARTITION BY partition ORDER BY "offset") AS step FROM unilog.records) AS r
		WHERE step <> 1`)
	last := Query[int64](w, `SELECT coalesce(max("offset"), 0) FROM unilog.records WHERE partition = 0`)
	next := Query[int64](w, `SELECT next_offset FROM unilog.partitions WHERE partition = 0`)
	if gaps != 0 || last != 0 && last != next-1 {
		w.Errorf("the archive has %d gaps and ends at %d, before next_offset %d", gaps, last, next)
	}
}

// CheckLog sees that the offsets that the log holds follow each other.
func (w *World) CheckLog() {
	w.Helper()
	offsets := w.Offsets()
	for i, offset := range offsets {
		if offset != offsets[0]+int64(i) {
			w.Errorf("entry number %d of the log has the offset %d, the first one %d", i, offset, offsets[0])
			return
		}
	}
}

// CheckAudit sees that every consumer agrees with the database.
func (w *World) CheckAudit() {
	w.Helper()
	balances, err := Audit.Check(w.Ctx, w.DB)
	w.Must(err)
	for _, b := range balances {
		if !b.Agrees {
			w.Errorf("%s disagrees: %+v", b.Consumer, b)
		}
	}
}

// Total is what a consumer has added up.
func (w *World) Total(name string) string {
	w.Helper()
	return Query[string](w, `SELECT coalesce((SELECT total FROM sums WHERE name = $1), 0)::text`, name)
}

func (w *World) WantTotal(name, want string) {
	w.Helper()
	if got := w.Total(name); got != want {
		w.Errorf("the total of %s is %s, want %s", name, got, want)
	}
}

func (w *World) WantCount(what string, got, want int) {
	w.Helper()
	if got != want {
		w.Errorf("%s: %d, want %d", what, got, want)
	}
}
