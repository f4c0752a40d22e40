package switchlog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
	"github.com/rocketrides/unilog/switchlog"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// world is a source's database and places for its log: streams, of which the first
// one is where processes are told to look.
type world struct {
	testing.TB
	ctx    context.Context
	db     *pgxpool.Pool
	stream string

	engines map[string]switchlog.Engine // the test's own
}

const sqlApplied = `
CREATE TABLE applied (
    n bigint GENERATED ALWAYS AS IDENTITY,
    name text, partition integer, "offset" bigint, data jsonb,
    PRIMARY KEY (name, partition, "offset")
)`

func setup(t testing.TB) *world {
	t.Helper()
	w := &world{TB: t, ctx: t.Context(), stream: testenv.StreamName(t), engines: map[string]switchlog.Engine{}}
	w.db = testenv.Database(t, "world", func(ctx context.Context, pool *pgxpool.Pool) error {
		if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, sqlApplied)
		return err
	})
	return w
}

// open opens the log that is called by its URL, here a stream's name.
func (w *world) open(ctx context.Context, url string) (switchlog.Engine, error) {
	return redislog.Open(ctx, testenv.PatientRedis(testenv.SharedRedis(w)), w.stream+url)
}

func (w *world) engine(url string) switchlog.Engine {
	w.Helper()
	if w.engines[url] == nil {
		log, err := w.open(w.ctx, url)
		w.must(err)
		w.Cleanup(log.Close)
		w.engines[url] = log
	}
	return w.engines[url]
}

func (w *world) log() *switchlog.Log {
	w.Helper()
	var log *switchlog.Log
	await.That(w, "the log to open", func() (instead string) { // for which it has five seconds
		var err error
		if log, err = switchlog.Open(w.ctx, w.db, "", w.open); err != nil {
			return err.Error()
		}
		return ""
	})
	w.Cleanup(log.Close)
	return log
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) exec(sql string) {
	w.Helper()
	_, err := w.db.Exec(w.ctx, sql)
	w.must(err)
}

func query[T any](w *world, sql string, args ...any) T {
	w.Helper()
	rows, err := w.db.Query(w.ctx, sql, args...)
	w.must(err)
	v, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	w.must(err)
	return v
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

var quiet = slog.New(slog.DiscardHandler)

// stream and consume run a streamer and a consumer that fail now and then.
func (w *world) runStreamer() (stop func()) {
	w.Helper()
	s, err := streamer.New(streamer.Config{
		DB: w.db, Log: w.log(), Logger: quiet, BatchRecords: 50,
		Hooks: streamer.Hooks{AfterAppend: unilog.SimulateFailures(0.1, 1)},
	})
	w.must(err)
	return w.run(s.Run)
}

func (w *world) runConsumer(name string) (stop func()) {
	w.Helper()
	c, err := consumer.New(consumer.Config{
		Name: name, DB: w.db, Archive: w.db, Log: w.log(), Logger: quiet, BatchRecords: 50,
		Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
			_, err := tx.Exec(ctx, `INSERT INTO applied (name, partition, "offset", data) VALUES ($1, $2, $3, $4)`,
				name, e.Partition, e.Offset, bytes.TrimPrefix(e.Payload(), notText))
			return err
		}),
		Hooks: consumer.Hooks{BeforeCommit: unilog.SimulateFailures(0.1, 2)},
	})
	w.must(err)
	return w.run(c.Run)
}

// notText is what bodies begin with.
var notText = []byte("\x00\x80")

func record(n int) unilog.Record {
	if n%3 == 0 {
		return unilog.Record{Action: "note", Object: "number", Body: fmt.Appendf(notText[:2:2], `{"n": %d}`, n), ContentType: "application/x-number"}
	}
	return unilog.Record{Action: "note", Object: "number", Data: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}
}

func (w *world) stage(n int) {
	w.Helper()
	w.must(unilog.Stage(w.ctx, w.db, record(n)))
}

// runWriter stages records, one after another, and counts them.
func (w *world) runWriter() (staged *atomic.Int64, stop func()) {
	staged = new(atomic.Int64)
	return staged, w.run(func(ctx context.Context) error {
		for ctx.Err() == nil {
			w.stage(int(staged.Add(1)))
		}
		return nil
	})
}

// checkApplied sees that a consumer has applied each record once, in order.
func (w *world) checkApplied(name string, records int) {
	w.Helper()
	disorder := query[int](w, `SELECT count(*) FROM (
		SELECT (data ->> 'n')::bigint - lag((data ->> 'n')::bigint) OVER (ORDER BY n) AS step FROM applied WHERE name = $1) AS a
		WHERE step <> 1`, name)
	if n := query[int](w, `SELECT count(*) FROM applied WHERE name = $1`, name); n != records || disorder != 0 {
		w.Errorf("%s has applied %d records of %d, %d of them out of order", name, n, records, disorder)
	}
}

// copyAll copies until little is new.
func (w *world) copyAll(to unilog.Log) {
	w.Helper()
	for {
		n, err := switchlog.Copy(w.ctx, w.db, "", to, switchlog.Keep{Records: 10_000})
		w.must(err)
		if n < 100 {
			return
		}
	}
}

func (w *world) heads(names ...string) (heads []int64) {
	for _, name := range names {
		head, err := w.engine(name).Head(w.ctx, 0)
		w.must(err)
		heads = append(heads, head.Offset)
	}
	return heads
}

// TestPositionsOfAnotherPlaceAreIgnored gives a reader the position that an entry
// has in another place.
func TestPositionsOfAnotherPlaceAreIgnored(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := switchlog.Move(w.ctx, w.db, "", "b")
	w.must(err)
	log := w.log()
	stop := w.runStreamer()
	for n := range 5 {
		w.stage(n + 1)
	}
	await.Equal(w, "the head", 5, func() int64 { return w.heads("b")[0] })
	stop()
	for _, position := range []string{"", "1/", "0/elsewhere", "elsewhere", "7/elsewhere"} {
		got, err := log.Read(w.ctx, 0, unilog.Cursor{Offset: 2, Position: position}, 10, 0)
		w.must(err)
		if len(got) != 3 || got[0].Offset != 3 || got[0].Position != "1/" {
			t.Errorf("after position %q: %d entries, %+v", position, len(got), got)
		}
	}
}
