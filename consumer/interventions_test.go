package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

var in consumer.In

// given keeps what a handler was given and has applied, in the order of the commits of a
// partition.
func given(w *world.World) consumer.Handler {
	w.Exec(`CREATE TABLE given (n bigint GENERATED ALWAYS AS IDENTITY, partition integer, "offset" bigint)`)
	w.Cleanup(func() { // no total is kept
		w.Ctx = context.Background()
		w.Exec(`DELETE FROM unilog.checkpoints`)
	})
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		for _, e := range entries {
			if _, err := tx.Exec(ctx, `INSERT INTO given (partition, "offset") VALUES ($1, $2)`, e.Partition, e.Offset); err != nil {
				return err
			}
		}
		return nil
	}
}

func wantGiven(w *world.World, partition int, want ...int64) {
	w.Helper()
	world.AwaitEqual(w, "what was applied", fmt.Sprint(want), func() string {
		return fmt.Sprint(world.Query[[]int64](w, `SELECT coalesce(array_agg("offset" ORDER BY n), '{}') FROM given WHERE partition = $1`, partition))
	})
}

func offset(n int64) unilog.Start { return unilog.Start{Offset: n} }

// seek moves consumer "sum" in all of its partitions.
func seek(w *world.World, to unilog.Start) []consumer.Move {
	w.Helper()
	moves, err := in.Seek(w.Ctx, w.DB, "sum", consumer.Target{Start: to, Archive: w.DB})
	w.Must(err)
	return moves
}

// TestSeekWinsAgainstTheBatchInHand moves a consumer that is at work on a batch, has read
// the next one already, and goes on to it.
func TestSeekWinsAgainstTheBatchInHand(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(12)
	add := given(w)
	began, goOn := make(chan struct{}), make(chan struct{})
	once := sync.OnceFunc(func() { close(began); <-goOn })
	w.Consumes(w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.BatchRecords = 4
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			once()
			return add(ctx, tx, entries)
		}
	}))
	world.Receive(w, "the handler to begin", began)
	moved := make(chan []consumer.Move, 1)
	go func() { moved <- seek(w, offset(2)) }()
	w.AwaitTrue("the seek to wait for the batch", `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%')`)
	close(goOn)
	moves := world.Receive(w, "the seek", moved)
	if len(moves) != 1 || moves[0].To != 1 || moves[0].From%4 != 0 {
		t.Errorf("it has moved %+v", moves)
	}
	want := []int64{}
	for n := range moves[0].From {
		want = append(want, n+1)
	}
	wantGiven(w, 0, append(want, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)...)
}

// TestSeekOvertakesWhoHasReadOn moves a consumer that does not know of it and goes on with
// the batch after the one that it has applied.
func TestSeekOvertakesWhoHasReadOn(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(12)
	add := given(w)
	c := w.Consumer("sum", func(cfg *consumer.Config) { cfg.BatchRecords, cfg.Handler = 4, add })
	n, err := c.RunOnce(w.Ctx)
	w.Must(err)
	w.WantCount("applied before", n, 4)
	seek(w, offset(2))
	_, err = c.RunOnce(w.Ctx)
	w.Must(err)
	w.Consume(c)
	wantGiven(w, 0, 1, 2, 3, 4, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12)
}

// TestSeekIsHeededByIdleProcesses moves a consumer that has applied all there is, back and
// then ahead.
func TestSeekIsHeededByIdleProcesses(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 2)
	add := given(p.World)
	for partition := range 2 {
		p.Write(partition, "1", "1", "1")
	}
	use := func(cfg *consumer.Config) { cfg.Handler = add }
	runs := p.Run(use)
	wantGiven(p.World, 0, 1, 2, 3)
	wantGiven(p.World, 1, 1, 2, 3)
	runs.AwaitReads(0, 1) // it has counted its first change
	changes := runs.Changes.Load()

	second := 1
	if _, err := in.Seek(p.Ctx, p.DB, "sum", consumer.Target{Start: offset(3)}); !errors.Is(err, consumer.ErrPartitions) {
		t.Errorf("an offset of all partitions: %v", err)
	}
	_, err := in.Seek(p.Ctx, p.DB, "sum", consumer.Target{Start: offset(3), Partition: &second, Reason: "a bug"})
	p.Must(err)
	wantGiven(p.World, 1, 1, 2, 3, 3)
	seek(p.World, unilog.Start{})
	wantGiven(p.World, 0, 1, 2, 3, 1, 2, 3)
	wantGiven(p.World, 1, 1, 2, 3, 3, 1, 2, 3)
	if n := runs.Changes.Load(); n != changes {
		t.Errorf("it has changed its leases %d times", n-changes)
	}
	p.WantReady(runs.Consumer.Ready, "")

	// One that does not run goes on there when it does, also by RunOnce.
	runs.Stop()
	seek(p.World, unilog.Start{Time: time.Now().Add(-time.Hour)})
	one := p.Consumer("sum", use)
	p.WantCount("applied", p.Consume(one), 6)
	p.WriteAll()
	if moves := seek(p.World, unilog.Start{Head: true}); moves[0].From != 3 || moves[0].To != 4 {
		t.Errorf("to the head, it has moved %+v", moves)
	}
	p.WantCount("applied", p.Consume(p.Consumer("sum", use)), 0)

	last, err := in.Interventions(p.Ctx, p.DB, "sum", 100)
	p.Must(err)
	first := last[len(last)-1]
	if first.What != "seek" || first.Who == "" || first.Partition == nil || *first.Partition != 1 || *first.From != 3 || *first.To != 2 || first.Reason != "a bug" || len(last) != 7 {
		t.Errorf("the first of %d interventions is %+v", len(last), first)
	}
}

// TestSeekIsRefused leaves a consumer alone that cannot go where it was told to.
func TestSeekIsRefused(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(9)
	w.Consume(w.Consumer("sum"))
	w.LoseArchive(0, 4)
	old := time.Now().Add(-time.Hour)
	for name, c := range map[string]struct {
		to   unilog.Start
		want any
	}{
		"the archive lacks the offset":    {offset(4), new(*unilog.NotArchivedError)},
		"the archive lacks the beginning": {unilog.Start{}, new(*unilog.NotArchivedError)},
		"the archive lacks the time":      {unilog.Start{Time: old}, new(*unilog.NotArchivedError)},
		"it is beyond the log":            {offset(11), new(*consumer.BeyondError)},
	} {
		_, err := in.Seek(w.Ctx, w.DB, "sum", consumer.Target{Start: c.to, Archive: w.DB})
		if !errors.As(err, c.want) {
			t.Errorf("%s: it says %v", name, err)
		}
		if missing := new(unilog.NotArchivedError); errors.As(err, &missing) && (missing.First != 5 || missing.Since.IsZero()) {
			t.Errorf("%s: it does not say what there is: %v", name, err)
		}
	}
	if _, err := in.Seek(w.Ctx, w.DB, "nobody", consumer.Target{Archive: w.DB}); !errors.Is(err, consumer.ErrUnknown) {
		t.Errorf("of a consumer that there is not it says %v", err)
	}
	another := world.Setup(t)
	another.Exec(`UPDATE unilog.log SET log_id = gen_random_uuid()`)
	another.Publish(2)
	foreign := new(unilog.ForeignLogError)
	_, err := in.Seek(w.Ctx, w.DB, "sum", consumer.Target{Start: offset(2), Archive: another.DB})
	if !errors.As(err, &foreign) || foreign.LogID == foreign.Theirs {
		t.Errorf("to a place in another database's archive it says %v", err)
	}
	w.WantCount("interventions", world.Query[int](w, `SELECT count(*) FROM unilog.interventions`), 0)
	w.WantCount("applied then", w.Consume(w.Consumer("sum")), 0)
	if moves := seek(w, offset(5)); moves[0].To != 4 {
		t.Errorf("to where the archive begins, it has moved %+v", moves)
	}
	seek(w, offset(10))
}

// TestHaltedConsumerGoesOn lets one wait at a record that it rejects: it skips it when told
// to, and applies it when told to.
func TestHaltedConsumerGoesOn(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "13", "2")
	w.StreamAll()
	var mended atomic.Bool
	add := consumer.Each(w.Add("sum"))
	picky := world.Rejecting(add, func() {}, "13")
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.RetryHalted = time.Hour
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if mended.Load() {
				return add(ctx, tx, entries)
			}
			return picky(ctx, tx, entries)
		}
	})
	w.Consumes(c)
	w.Await("the consumer to halt", func() string {
		if err := c.Ready(); !errors.As(err, new(*unilog.RejectedError)) {
			return fmt.Sprint(err)
		}
		return ""
	})
	skip := func(offset int64) error {
		found, err := archive.Read(w.Ctx, w.DB, "", 0, offset-1, offset, 1)
		w.Must(err)
		return in.Skip(w.Ctx, w.DB, "sum", found[0], "it is unlucky")
	}
	for _, wrong := range []int64{1, 3} {
		if err := skip(wrong); !errors.As(err, new(*consumer.NotNextError)) {
			t.Errorf("to skip offset %d it says %v", wrong, err)
		}
	}
	if err := in.Skip(w.Ctx, w.DB, "sum", unilog.Entry{Offset: 2, Record: unilog.Record{Object: unilog.ReservedObject}}, ""); !errors.Is(err, consumer.ErrOwnEntry) {
		t.Errorf("to skip a barrier it says %v", err)
	}
	w.WantCount("dead letters", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters`), 0)
	w.WantTotal("sum", "1")
	w.Must(skip(2))
	w.AwaitTotal("sum", "3")
	w.AwaitReady(c.Ready)
	w.CheckAudit()
	letters, err := consumer.DeadLetters(w.Ctx, w.DB, "sum")
	w.Must(err)
	if len(letters) != 1 || letters[0].Offset != 2 || letters[0].Reason != "skipped: it is unlucky" {
		t.Fatalf("parked are %+v", letters)
	}

	w.Must(in.Requeue(w.Ctx, w.DB, "sum", 0, 2))
	w.AwaitTrue("it to be rejected again", `SELECT error = 'poison' AND requeued_at IS NULL FROM unilog.dead_letters`)
	w.WantTotal("sum", "3")
	mended.Store(true)
	w.Must(in.Requeue(w.Ctx, w.DB, "sum", 0, 2))
	w.AwaitTotal("sum", "16")
	w.AwaitTrue("it to be gone", `SELECT NOT EXISTS (SELECT FROM unilog.dead_letters)`)
	if err := in.Requeue(w.Ctx, w.DB, "sum", 0, 2); !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("once more it says %v", err)
	}
}

// TestRequeuedRecordIsAppliedOnce lets two processes take it at the same time, and seeks to
// before it.
func TestRequeuedRecordIsAppliedOnce(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "13", "2")
	w.StreamAll()
	w.Consume(w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler, cfg.ParkRejected = world.Rejecting(cfg.Handler, func() {}, "13"), true
	}))
	w.WantTotal("sum", "3")
	w.Must(in.Requeue(w.Ctx, w.DB, "sum", 0, 2))
	both := make(chan error, 2)
	var applied atomic.Int64
	for range 2 {
		c := w.Consumer("sum")
		go func() {
			n, err := c.RunOnce(w.Ctx)
			applied.Add(int64(n))
			both <- err
		}()
	}
	for range 2 {
		w.Must(world.Receive(w, "a process", both))
	}
	w.WantCount("applied", int(applied.Load()), 1)
	w.WantTotal("sum", "16")

	// What is parked after the place comes again from the log, and is not parked any more.
	w.Exec(`DELETE FROM applied; UPDATE sums SET total = 0`)
	w.Exec(`INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
		SELECT 'sum', 0, 2, now(), 'note', 'amount', '', '{"amount": 13}', '{}', 'poison'`)
	if moves := seek(w, unilog.Start{}); moves[0].Parked != 1 {
		t.Errorf("it has moved %+v", moves)
	}
	w.Consume(w.Consumer("sum"))
	w.WantTotal("sum", "16")
}

// TestEachHaltedPartitionWaitsAlone has a record in one of two partitions that is rejected.
func TestEachHaltedPartitionWaitsAlone(t *testing.T) {
	t.Parallel()
	p := world.SetupPartitions(t, 2)
	p.Write(0, "13")
	var asked atomic.Int32
	runs := p.Run(func(cfg *consumer.Config) {
		cfg.RetryHalted = time.Millisecond
		cfg.Handler = world.Rejecting(cfg.Handler, func() { asked.Add(1) }, "13")
	})
	await.True(t, "it to try again", func() bool { return asked.Load() > 6 })
	p.Write(1, "1")
	p.AwaitTotal("sum", "1")
	if err := runs.Consumer.Ready(); !errors.As(err, new(*unilog.RejectedError)) {
		t.Errorf("Ready says %v", err)
	}
	runs.Stop()
	p.Exec(`DELETE FROM unilog.batches WHERE partition = 0 AND last_offset = 1; UPDATE unilog.partitions SET next_offset = 1, published_offset = 0 WHERE partition = 0`)
	p.Exec(`DELETE FROM amounts WHERE amount = 13`)
}
