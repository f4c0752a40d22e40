package switchlog_test

import (
	"context"
	"encoding/json"
	"errors"
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
	return redislog.Open(ctx, testenv.SharedRedis(w), w.stream+url)
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
	log, err := switchlog.Open(w.ctx, w.db, w.open)
	w.must(err)
	w.Cleanup(log.Close)
	return log
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
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
				name, e.Partition, e.Offset, e.Data)
			return err
		}),
		Hooks: consumer.Hooks{BeforeCommit: unilog.SimulateFailures(0.1, 2)},
	})
	w.must(err)
	return w.run(c.Run)
}

func (w *world) stage(n int) {
	w.Helper()
	w.must(unilog.Stage(w.ctx, w.db, unilog.Record{Action: "note", Object: "number", Data: json.RawMessage(fmt.Sprintf(`{"n": %d}`, n))}))
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
		n, err := switchlog.Copy(w.ctx, w.db, to, 10_000)
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

// TestLogMovesWhileRecordsFlow moves a log there, back, and there again, under
// streamers and consumers that fail now and then.
func TestLogMovesWhileRecordsFlow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	staged, stopWriter := w.runWriter()
	stopOne, stopTwo := w.runStreamer(), w.runStreamer()
	stopSum, stopCount := w.runConsumer("sum"), w.runConsumer("count")
	applied := func(name string) int64 {
		return query[int64](w, `SELECT count(*) FROM applied WHERE name = $1`, name)
	}
	flows := func() {
		w.Helper()
		now := staged.Load()
		await.True(w, "both consumers to go on", func() bool { return applied("sum") > now && applied("count") > now })
	}
	flows()
	for i, move := range []func(){
		func() {
			next := w.engine("b")
			w.copyAll(next)
			if n, err := switchlog.Compare(w.ctx, w.db, next); err != nil || n == 0 {
				t.Errorf("compared %d: %v", n, err)
			}
			_, err := switchlog.Move(w.ctx, w.db, "b")
			w.must(err)
		},
		func() {
			_, err := switchlog.Undo(w.ctx, w.db)
			w.must(err)
		},
		func() { // without a copy: what is missing comes from the archive
			_, err := switchlog.Move(w.ctx, w.db, "b")
			w.must(err)
			_, err = switchlog.Finish(w.ctx, w.db)
			w.must(err)
		},
	} {
		move()
		want := []string{"b", "", "b"}[i]
		moved := w.heads(want)[0]
		await.True(w, "the log to be written in its new place", func() bool { return w.heads(want)[0] > moved+10 })
		flows()
		generation := fmt.Sprintf("%d/%%", i+1)
		await.Equal(w, "the consumers that read it there", 2, func() int {
			return query[int](w, `SELECT count(*) FROM checkpoints WHERE position LIKE $1`, generation)
		})
	}
	stopWriter()
	records := int(staged.Load())
	await.Equal(w, "records applied by both", int64(2*records), func() int64 { return applied("sum") + applied("count") })
	for _, stop := range []func(){stopOne, stopTwo, stopSum, stopCount} {
		stop()
	}
	w.checkApplied("sum", records)
	w.checkApplied("count", records)
	if heads := w.heads("", "b"); heads[0] >= heads[1] || heads[1] != int64(records) {
		t.Errorf("the old log is at offset %d and the new one at %d of %d", heads[0], heads[1], records)
	}
}

// TestPositionsOfAnotherPlaceAreIgnored gives a reader the position that an entry
// has in another place.
func TestPositionsOfAnotherPlaceAreIgnored(t *testing.T) {
	t.Parallel()
	w := setup(t)
	_, err := switchlog.Move(w.ctx, w.db, "b")
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

func TestMovesTakeTurns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if _, err := switchlog.Undo(w.ctx, w.db); !errors.Is(err, switchlog.ErrFinal) {
		t.Errorf("undo of nothing: %v", err)
	}
	generation, err := switchlog.Move(w.ctx, w.db, "b")
	w.must(err)
	if generation != 1 {
		t.Errorf("generation %d", generation)
	}
	if _, err := switchlog.Move(w.ctx, w.db, "c"); err == nil {
		t.Error("a second move before the first one is finished")
	}
	at, err := switchlog.Undo(w.ctx, w.db)
	w.must(err)
	if at.URL != "" || at.Generation != 2 {
		t.Errorf("undone to %+v", at)
	}
	if _, err := switchlog.Undo(w.ctx, w.db); !errors.Is(err, switchlog.ErrFinal) {
		t.Errorf("undo of an undo: %v", err)
	}
}

// TestCompareOfAShortCopy compares a copy with fewer entries than are compared at most.
func TestCompareOfAShortCopy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stop := w.runStreamer()
	for n := range 50 {
		w.stage(n + 1)
	}
	await.Equal(w, "the published offset", 50, func() int { return query[int](w, `SELECT published_offset FROM log_partitions`) })
	stop()
	next := w.engine("b")
	if n, err := switchlog.Copy(w.ctx, w.db, next, 10); n != 10 || err != nil {
		t.Errorf("copied %d: %v", n, err)
	}
	if n, err := switchlog.Compare(w.ctx, w.db, next); n != 10 || err != nil {
		t.Errorf("compared %d: %v", n, err)
	}
}

// TestCopyRefusesALogThatIsAhead sees that a log that somebody else writes to is
// left alone.
func TestCopyRefusesALogThatIsAhead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stop := w.runStreamer()
	w.stage(1)
	await.Equal(w, "the head", 1, func() int64 { return w.heads("")[0] })
	stop()
	next := w.engine("b")
	logID := query[string](w, `SELECT log_id::text FROM log_partitions`)
	w.must(next.Reset(w.ctx, unilog.Term{LogID: logID, Epoch: 1}, 100))
	if _, err := switchlog.Copy(w.ctx, w.db, next, 10); err == nil {
		t.Error("copied behind another writer")
	}
	foreign := w.engine("c")
	w.must(foreign.Reset(w.ctx, unilog.Term{LogID: "0196f0c4-0000-7000-8000-000000000002", Epoch: 1}, 0))
	var theirs *unilog.ForeignLogError
	if _, err := switchlog.Copy(w.ctx, w.db, foreign, 10); !errors.As(err, &theirs) {
		t.Errorf("copied into another database's log: %v", err)
	}
}
