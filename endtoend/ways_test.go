package endtoend_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// These are the ten ways in which the obvious design loses records.

func TestWay1CommitsOutOfOrder(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s, c := w.Streamer(), w.Consumer("sum")
	early := w.Begin()
	w.Note(early, "1") // takes the lower id, and becomes visible last
	w.Commit("2")
	w.WantCount("published before the lower id commits", w.Drain(s), 1)
	w.WantCount("applied before the lower id commits", w.Consume(c), 1)
	w.Must(early.Commit(w.Ctx))
	w.WantCount("published after it", w.Drain(s), 1)
	w.WantCount("applied after it", w.Consume(c), 1)
	w.WantTotal("sum", "3")
}

func TestWay2DeleteSeesMoreThanSelect(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.Drain(s)

	// Numbering stops in its delete, when it has selected its rows, until a row
	// with a lower id than theirs has been committed.
	const gate = 4711
	w.Exec(fmt.Sprintf(`
		CREATE FUNCTION wait_at_gate() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN PERFORM pg_advisory_xact_lock_shared(%d); RETURN OLD; END $$`, gate))
	w.Exec(`CREATE TRIGGER gate BEFORE DELETE ON unilog.staged_records FOR EACH ROW EXECUTE FUNCTION wait_at_gate()`)
	closed := w.Begin()
	_, err := closed.Exec(w.Ctx, `SELECT pg_advisory_xact_lock($1)`, gate)
	w.Must(err)
	early := w.Begin()
	w.Note(early, "1")
	w.Commit("2", "3")

	var numbering errgroup.Group
	numbering.Go(func() error { _, err := s.RunOnce(w.Ctx); return err })
	w.AwaitTrue("the numbering to stand at the gate", `SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`)
	w.Must(early.Commit(w.Ctx))
	w.Must(closed.Rollback(w.Ctx))
	w.Ended("the numbering", &numbering)
	w.WantCount("stream entries before the late row is numbered", len(w.Offsets()), 2)
	w.Drain(s)
	w.WantCount("stream entries", len(w.Offsets()), 3)
}

func TestWay3BacklogLargerThanABatch(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(95)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords = 10
	})
	w.WantCount("published", w.Drain(s), 95)
	w.WantCount("stream entries", len(w.Offsets()), 95)
	w.WantCount("staged rows left", world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`), 0)
	w.Consume(w.Consumer("sum", func(cfg *consumer.Config) { cfg.BatchRecords = 7 }))
	w.WantTotal("sum", "95")
}

func TestWay4LogLosesAcknowledgedEntries(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(w *world.World){
		"all of them":              (*world.World).Wipe,
		"the stream alone":         func(w *world.World) { w.Command("DEL", w.Stream) },
		"the last thirty of fifty": func(w *world.World) { w.LoseTail(20) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Runs()
			ahead, behind := w.Consumer("ahead"), w.Consumer("behind")
			w.CommitMany(10)
			w.AwaitEntries(10)
			w.Consume(behind)
			w.CommitMany(40)
			w.AwaitEntries(50)
			w.Consume(ahead)
			before := w.Offsets()
			lose(w)

			// Nothing new is staged: the streamer notices by itself.
			world.AwaitEqual(w, "the offsets that the log holds", fmt.Sprint(before), func() string { return fmt.Sprint(w.Offsets()) })
			w.Commit("1000")
			w.AwaitEntries(51)
			w.WantCount("applied by the consumer that was behind", w.Consume(behind), 41)
			w.WantCount("applied by the other", w.Consume(ahead), 1)
			w.WantTotal("ahead", "1050")
			w.WantTotal("behind", "1050")
		})
	}
}

func TestWay4NoticedByTheNextAppend(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.CommitMany(50)
	w.Drain(s)
	w.Wipe()
	w.Commit("1000")
	w.Drain(s)
	w.WantCount("stream entries", len(w.Offsets()), 51)
	w.Consume(w.Consumer("sum"))
	w.WantTotal("sum", "1050")
}

func TestWay5TrimmedAndNothingComes(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(20)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MAXLEN", "0")
	w.Consumes(w.Consumer("sum"))
	w.AwaitTotal("sum", "20")
}

func TestWay5HoleInTheMiddle(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(50)
	w.Drain(w.Streamer())
	w.Command("XDEL", w.Stream, "20-0", "21-0", "30-0")
	c := w.Consumer("sum")
	w.WantCount("applied up to the hole", stepOnce(w, c), 19)
	w.WantCount("applied in all", w.Consume(c), 31)
	w.WantTotal("sum", "50")
	w.Wipe() // a stream with holes is not in order
}

func stepOnce(w *world.World, c *consumer.Consumer) int {
	w.Helper()
	n, err := c.RunOnce(w.Ctx)
	w.Must(err)
	return n
}

func TestWay5TrimmedBeforeItWasRead(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	slow := w.Consumer("slow")
	w.CommitMany(10)
	w.Drain(s)
	w.Consume(slow)
	w.CommitMany(90)
	w.Drain(s)
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")

	apart := w.Consumer("apart", func(cfg *consumer.Config) { cfg.Archive = nil })
	_, err := apart.RunOnce(w.Ctx)
	var gap *unilog.GapError
	if !errors.As(err, &gap) || gap.From != 1 || gap.To != 95 {
		t.Errorf("without the archive the consumer says %v, want a gap from 1 to 95", err)
	}
	w.WantTotal("apart", "0")

	w.WantCount("applied with the help of the archive", w.Consume(slow), 90)
	w.WantTotal("slow", "100")
	w.Consume(w.Consumer("added later"))
	w.WantTotal("added later", "100")
}

func TestWay6NothingButDuplicates(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	skipped := 0
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Log = rewound{w.Log}
		cfg.BatchRecords = 5
		cfg.Hooks.Skipped = func(_ context.Context, entries []unilog.Entry) { skipped += len(entries) }
	})
	w.CommitMany(5)
	w.Drain(s)
	w.WantCount("applied", w.Consume(c), 5)
	w.WantCount("applied again", w.Consume(c), 0)
	if skipped < 5 {
		t.Errorf("%d duplicates were skipped, want at least 5", skipped)
	}
	w.CommitMany(5)
	w.Drain(s)
	w.WantCount("applied after the duplicates", w.Consume(c), 5)
	w.WantTotal("sum", "10")
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
	w := world.SetupOnRedis(t)
	w.CommitMany(300)
	w.Drain(w.Streamer())
	var instances errgroup.Group
	add := consumer.Each(w.Add("sum"))
	met := sync.OnceFunc(func() { // all three have read the first batch
		w.AwaitTrue("the others to wait for the checkpoint", `SELECT count(*) = 2 FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%UPDATE unilog.checkpoints%'`)
	})
	for range 3 {
		c := w.Consumer("sum", func(cfg *consumer.Config) {
			cfg.BatchRecords = 7
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
				met()
				return add(ctx, tx, entries)
			}
		})
		instances.Go(func() error {
			for world.Query[int64](w, `SELECT coalesce(max("offset"), 0) FROM unilog.checkpoints WHERE name = 'sum'`) < 300 {
				if _, err := c.RunOnce(w.Ctx); err != nil {
					return err
				}
			}
			return nil
		})
	}
	w.Ended("the instances", &instances)
	w.WantTotal("sum", "300")
	w.WantCount("applied", world.Query[int](w, `SELECT count(*) FROM applied`), 300)
	w.WantCount("applied out of order", world.Query[int](w, `
		SELECT count(*) FROM (SELECT "offset" - lag("offset") OVER (ORDER BY n) AS step FROM applied) AS a WHERE step <> 1`), 0)
}

func TestWay8BatchSentAgain(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	sends := 0
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords = 10
		cfg.Hooks.AfterAppend = func(context.Context, []unilog.Entry) error {
			if sends++; sends%2 == 1 {
				return unilog.ErrSimulated // the answer is lost: every batch goes out twice
			}
			return nil
		}
	})
	w.CommitMany(30)
	w.Drain(s)
	w.WantCount("sends", sends, 6)
	w.WantCount("stream entries", len(w.Offsets()), 30)
	w.Consume(w.Consumer("sum"))
	w.WantTotal("sum", "30")
}

func TestWay9TotalsDoNotDependOnOrder(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	amounts := []string{"1000000000", "0.1", "0.2", "0.000000000000000000000000000001", "123456789.987654321", "0.3"}
	for i := range amounts {
		w.Commit(append(amounts[i:len(amounts):len(amounts)], amounts[:i]...)...)
	}
	w.Drain(w.Streamer())
	for i, name := range []string{"by ones", "by fives", "at once"} {
		w.Consume(w.Consumer(name, func(cfg *consumer.Config) { cfg.BatchRecords = []int{1, 5, 100}[i] }))
		w.WantTotal(name, "6740740743.525925926000000000000000000006")
	}
}

func TestWay10OpenTransactionDoesNotStall(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s, c := w.Streamer(), w.Consumer("sum")
	open := w.Begin()
	w.Note(open, "1") // has its transaction id, and stays open all the while
	for i := range 5 {
		w.Commit("2")
		w.WantCount("published while a writer is open", w.Drain(s), 1)
		w.WantCount("applied while a writer is open", w.Consume(c), 1)
		w.WantTotal("sum", fmt.Sprint(2*(i+1)))
	}
	// The open transaction sees what the others did, and its record, the effect,
	// comes after theirs, the cause, although its transaction id is lower.
	w.Note(open, "3")
	w.Must(open.Commit(w.Ctx))
	w.WantCount("published when it ends", w.Drain(s), 2)
	w.WantCount("applied when it ends", w.Consume(c), 2)
	last := world.Query[string](w, `SELECT data ->> 'amount' FROM unilog.records ORDER BY "offset" DESC LIMIT 1`)
	if last != "3" {
		t.Errorf("the last record is %s, want 3", last)
	}
}
