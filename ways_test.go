package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// These are the ten ways in which the obvious design loses records.

func TestWay1CommitsOutOfOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s, c := w.streamer(), w.consumer("sum")
	early := w.begin()
	w.note(early, "1") // takes the lower id, and becomes visible last
	w.commit("2")
	w.wantCount("published before the lower id commits", w.drain(s), 1)
	w.wantCount("applied before the lower id commits", w.consume(c), 1)
	w.must(early.Commit(w.ctx))
	w.wantCount("published after it", w.drain(s), 1)
	w.wantCount("applied after it", w.consume(c), 1)
	w.wantTotal("sum", "3")
}

func TestWay2DeleteSeesMoreThanSelect(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.drain(s)

	// Numbering stops in its delete, when it has selected its rows, until a row
	// with a lower id than theirs has been committed.
	const gate = 4711
	w.exec(fmt.Sprintf(`
		CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN OLD; END $$`, gate))
	w.exec(`CREATE TRIGGER gate BEFORE DELETE ON staged_log_records FOR EACH ROW EXECUTE FUNCTION wait_at_gate()`)
	closed := w.begin()
	_, err := closed.Exec(w.ctx, `SELECT pg_advisory_xact_lock($1)`, gate)
	w.must(err)
	early := w.begin()
	w.note(early, "1")
	w.commit("2", "3")

	var numbering errgroup.Group
	numbering.Go(func() error { _, err := s.RunOnce(w.ctx); return err })
	w.awaitTrue("the numbering to stand at the gate", `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	w.must(early.Commit(w.ctx))
	w.must(closed.Rollback(w.ctx))
	w.ended("the numbering", &numbering)
	w.wantCount("stream entries before the late row is numbered", len(w.streamIDs()), 2)
	w.drain(s)
	w.wantCount("stream entries", len(w.streamIDs()), 3)
}

func TestWay3BacklogLargerThanABatch(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(95)
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		cfg.BatchRecords = 10
	})
	w.wantCount("published", w.drain(s), 95)
	w.wantCount("stream entries", len(w.streamIDs()), 95)
	w.wantCount("staged rows left", query[int](w, `SELECT count(*) FROM staged_log_records`), 0)
	w.consume(w.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.BatchRecords = 7 }))
	w.wantTotal("sum", "95")
}

func TestWay4LogLosesAcknowledgedEntries(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w *world){
		"all of them":              (*world).wipe,
		"the stream alone":         func(w *world) { w.command("DEL", w.stream) },
		"the last thirty of fifty": func(w *world) { w.loseTail(20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.runs()
			ahead, behind := w.consumer("ahead"), w.consumer("behind")
			w.commitMany(10)
			w.awaitEntries(10)
			w.consume(behind)
			w.commitMany(40)
			w.awaitEntries(50)
			w.consume(ahead)
			before := w.streamIDs()
			lose(w)

			// Nothing new is staged: the streamer notices by itself.
			awaitEqual(w, "what the stream holds", strings.Join(before, " "), func() string { return strings.Join(w.streamIDs(), " ") })
			w.commit("1000")
			w.awaitEntries(51)
			w.wantCount("applied by the consumer that was behind", w.consume(behind), 41)
			w.wantCount("applied by the other", w.consume(ahead), 1)
			w.wantTotal("ahead", "1050")
			w.wantTotal("behind", "1050")
		})
	}
}

func TestWay4NoticedByTheNextAppend(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.commitMany(50)
	w.drain(s)
	w.wipe()
	w.commit("1000")
	w.drain(s)
	w.wantCount("stream entries", len(w.streamIDs()), 51)
	w.consume(w.consumer("sum"))
	w.wantTotal("sum", "1050")
}

func TestWay5TrimmedAndNothingComes(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(20)
	w.drain(w.streamer())
	w.command("XTRIM", w.stream, "MAXLEN", "0")
	w.consumes(w.consumer("sum"))
	w.awaitTotal("sum", "20")
}

func TestWay5HoleInTheMiddle(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(50)
	w.drain(w.streamer())
	w.command("XDEL", w.stream, "20-0", "21-0", "30-0")
	c := w.consumer("sum")
	w.wantCount("applied up to the hole", stepOnce(w, c), 19)
	w.wantCount("applied in all", w.consume(c), 31)
	w.wantTotal("sum", "50")
	w.wipe() // a stream with holes is not in order
}

func stepOnce(w *world, c *unilog.Consumer) int {
	w.Helper()
	n, err := c.RunOnce(w.ctx)
	w.must(err)
	return n
}

func TestWay5TrimmedBeforeItWasRead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	slow := w.consumer("slow")
	w.commitMany(10)
	w.drain(s)
	w.consume(slow)
	w.commitMany(90)
	w.drain(s)
	w.command("XTRIM", w.stream, "MAXLEN", "5")

	apart := w.consumer("apart", func(cfg *unilog.ConsumerConfig) { cfg.Archive = nil })
	_, err := apart.RunOnce(w.ctx)
	var gap *unilog.GapError
	if !errors.As(err, &gap) || gap.From != 1 || gap.To != 95 {
		t.Errorf("without the archive the consumer says %v, want a gap from 1 to 95", err)
	}
	w.wantTotal("apart", "0")

	w.wantCount("applied with the help of the archive", w.consume(slow), 90)
	w.wantTotal("slow", "100")
	w.consume(w.consumer("added later"))
	w.wantTotal("added later", "100")
}

func TestWay6NothingButDuplicates(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	skipped := 0
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Log = rewound{w.log}
		cfg.BatchRecords = 5
		cfg.Hooks.Skipped = func(_ context.Context, entries []unilog.Entry) { skipped += len(entries) }
	})
	w.commitMany(5)
	w.drain(s)
	w.wantCount("applied", w.consume(c), 5)
	w.wantCount("applied again", w.consume(c), 0)
	if skipped < 5 {
		t.Errorf("%d duplicates were skipped, want at least 5", skipped)
	}
	w.commitMany(5)
	w.drain(s)
	w.wantCount("applied after the duplicates", w.consume(c), 5)
	w.wantTotal("sum", "10")
}

// rewound gives entries again that were read already, as a log would that
// promises each of them at least once. It remembers what it gave by position.
type rewound struct{ unilog.Log }

func (r rewound) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	from := after
	if after.Position != "given twice" {
		from.Offset = max(0, after.Offset-int64(limit))
	}
	entries, err := r.Log.Read(ctx, partition, from, limit, wait)
	for i := range entries {
		if entries[i].Offset <= after.Offset {
			entries[i].Position = "given twice"
		}
	}
	return entries, err
}

func TestWay7TwoInstancesOfOneConsumer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(300)
	w.drain(w.streamer())
	var instances errgroup.Group
	for range 3 {
		c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.BatchRecords = 7 })
		instances.Go(func() error {
			for query[int64](w, `SELECT coalesce(max("offset"), 0) FROM checkpoints WHERE name = 'sum'`) < 300 {
				if _, err := c.RunOnce(w.ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	w.ended("the instances", &instances)
	w.wantTotal("sum", "300")
	w.wantCount("applied", query[int](w, `SELECT count(*) FROM applied`), 300)
	w.wantCount("applied out of order", query[int](w, `
		SELECT count(*) FROM (SELECT "offset" - lag("offset") OVER (ORDER BY n) AS step FROM applied) AS a WHERE step <> 1`), 0)
}

func TestWay8BatchSentAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	sends := 0
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		cfg.BatchRecords = 10
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error {
			if sends++; sends%2 == 1 {
				return unilog.ErrSimulated // the answer is lost: every batch goes out twice
			}
			return nil
		}
	})
	w.commitMany(30)
	w.drain(s)
	w.wantCount("sends", sends, 6)
	w.wantCount("stream entries", len(w.streamIDs()), 30)
	w.consume(w.consumer("sum"))
	w.wantTotal("sum", "30")
}

func TestWay9TotalsDoNotDependOnOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	amounts := []string{"1000000000", "0.1", "0.2", "0.000000000000000000000000000001", "123456789.987654321", "0.3"}
	for i := range amounts {
		w.commit(append(amounts[i:len(amounts):len(amounts)], amounts[:i]...)...)
	}
	w.drain(w.streamer())
	for i, name := range []string{"by ones", "by fives", "at once"} {
		w.consume(w.consumer(name, func(cfg *unilog.ConsumerConfig) { cfg.BatchRecords = []int{1, 5, 100}[i] }))
		w.wantTotal(name, "6740740743.525925926000000000000000000006")
	}
}

func TestWay10OpenTransactionDoesNotStall(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s, c := w.streamer(), w.consumer("sum")
	open := w.begin()
	w.note(open, "1") // has its transaction id, and stays open all the while
	for i := range 5 {
		w.commit("2")
		w.wantCount("published while a writer is open", w.drain(s), 1)
		w.wantCount("applied while a writer is open", w.consume(c), 1)
		w.wantTotal("sum", fmt.Sprint(2*(i+1)))
	}
	// The open transaction sees what the others did, and its record, the effect,
	// comes after theirs, the cause, although its transaction id is lower.
	w.note(open, "3")
	w.must(open.Commit(w.ctx))
	w.wantCount("published when it ends", w.drain(s), 2)
	w.wantCount("applied when it ends", w.consume(c), 2)
	last := query[string](w, `SELECT data ->> 'amount' FROM log_records ORDER BY "offset" DESC LIMIT 1`)
	if last != "3" {
		t.Errorf("the last record is %s, want 3", last)
	}
}
