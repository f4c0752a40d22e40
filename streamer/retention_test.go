package streamer_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

func TestStreamerKeepsTheLogShort(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.KeepRecords = 100 })
	ones := func(cfg *consumer.Config) { cfg.Handler = addOnes }
	slow := w.Consumer("slow", ones)
	w.CommitMany(15_000) // more than Redis trims at once
	w.Drain(s)
	upkeep(w, s)
	// Redis trims by nodes of about a hundred entries.
	length := w.LogLength
	if n := length(); n < 100 || n > 250 {
		t.Errorf("the stream keeps %d entries without consumers, want 100 or a few more", n)
	}
	w.WantCount("applied from the archive", w.Consume(slow), 15_000)

	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 14900`)
	w.CommitMany(1000)
	w.Drain(s)
	upkeep(w, s)
	if n := length(); n < 1100 {
		t.Errorf("the stream keeps %d entries, and a consumer has yet to read the last 1,100", n)
	}
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 15000`)
	w.Consume(w.Consumer("slow", ones))
	upkeep(w, s)
	if n := length(); n < 100 || n > 250 {
		t.Errorf("the stream keeps %d entries that everyone has read, want 100 or a few more", n)
	}
}

// addOnes is a quick handler for a consumer "slow" of amounts of 1.
func addOnes(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
	_, err := tx.Exec(ctx, `
		INSERT INTO sums AS s VALUES ('slow', $1)
		ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total`, len(entries))
	return err
}

// kept returns how many records the archive still has when it has dropped the batches
// that end before an offset. A step of numbering that took too long is tried with fewer
// records: batches may be smaller than a test has set.
func kept(w *world.World, needed int64) int {
	w.Helper()
	return world.Query[int](w, `SELECT coalesce(sum(last_offset - first_offset + 1), 0)::int FROM unilog.batches WHERE last_offset >= $1`, needed)
}

func TestArchiveDropsWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	retention := time.Hour
	s := func() *streamer.Streamer {
		return w.Streamer(func(cfg *streamer.Config) {
			cfg.BatchRecords, cfg.KeepRecords = 30, 10
			cfg.Retention = retention
		})
	}
	streamer := s()
	c := w.Consumer("sum")
	archived := func() int {
		upkeep(w, streamer)
		return world.Query[int](w, `SELECT count(*) FROM unilog.records`)
	}
	w.CommitMany(550)
	w.Drain(streamer)
	w.Consume(c)
	w.WantCount("archived within the retention", archived(), 550)

	w.Exec(`UPDATE unilog.batches SET numbered_at = numbered_at - interval '2 hours'`)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 250`)
	behind, last := kept(w, 251), kept(w, 541)
	w.WantCount("archived for a consumer that is behind", archived(), behind)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 550`)
	// A reader that stays for long holds nobody up, and sees what it saw.
	reader, err := w.DB.BeginTx(w.Ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	w.Must(err)
	count := func() (n int) {
		w.Must(reader.QueryRow(w.Ctx, `SELECT count(*) FROM unilog.records`).Scan(&n))
		return n
	}
	w.WantCount("seen by a reader", count(), behind)
	w.WantCount("archived when everyone has applied it", archived(), last)
	w.WantCount("seen by the reader afterwards", count(), behind)
	w.Must(reader.Rollback(w.Ctx))

	// Another leader goes on with what it finds.
	streamer.Close()
	streamer = s()
	w.CommitMany(100)
	w.WantCount("published after a change of leader", w.Drain(streamer), 100)
	w.Consume(c)
	w.WantTotal("sum", "650")
}

// TestDroppedIsRecorded sees that the next leader does not look for records that
// the one before has published and dropped.
func TestDroppedIsRecorded(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 10, 1, time.Nanosecond
	})
	c := w.Consumer("sum")
	w.Consume(c)
	w.CommitMany(10)
	_, err := w.Patiently(s.RunOnce) // published, and the database does not know yet
	w.Must(err)
	w.Consume(c)
	upkeep(w, s)
	s.Close()
	w.Commit("1")
	w.WantCount("published by the next leader", w.Drain(s), 1)
	w.Consume(c)
	w.WantTotal("sum", "11")
}

func TestExpiredConsumerHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
		*cfg = streamer.WithConfirm(*cfg, time.Nanosecond)
	})
	w.Consume(w.Consumer("gone")) // registers
	w.CommitMany(350)
	w.Drain(s)
	upkeep(w, s)
	w.WantCount("archived for it", world.Query[int](w, `SELECT count(*) FROM unilog.records`), 350)
	w.Exec(`UPDATE unilog.checkpoints SET updated_at = updated_at - interval '8 days'`)
	careful := w.Streamer(func(cfg *streamer.Config) { // as after a jump of the clock
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
	})
	s.Close()
	for range 3 {
		upkeep(w, careful)
	}
	careful.Close()
	w.WantCount("archived when it has only begun to look expired", world.Query[int](w, `SELECT count(*) FROM unilog.records`), 350)
	last := kept(w, 341)
	for range 2 {
		upkeep(w, s)
	}
	w.WantCount("archived when it has expired", world.Query[int](w, `SELECT count(*) FROM unilog.records`), last)
	w.Exec(`DELETE FROM unilog.checkpoints`) // it can never agree again
}

// TestKeepForReports keeps records for a consumer elsewhere only where that is asked for,
// also when the log has lost its report, until it is silent for too long.
func TestKeepForReports(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	log := w.Log.(unilog.Reporter)
	with := func(keep bool) *streamer.Streamer {
		return w.Streamer(func(cfg *streamer.Config) {
			cfg.BatchRecords, cfg.KeepRecords, cfg.Retention, cfg.KeepForReports = 30, 10, time.Nanosecond, keep
			*cfg = streamer.WithConfirm(*cfg, time.Nanosecond)
		})
	}
	archived := func(what string, s *streamer.Streamer, needed int64) {
		t.Helper()
		want := kept(w, needed)
		upkeep(w, s)
		upkeep(w, s)
		w.WantCount("archived "+what, world.Query[int](w, `SELECT count(*) FROM unilog.records`), want)
	}
	s := with(true)
	w.Must(log.Report(w.Ctx, "mails", map[int]unilog.Cursor{0: {Offset: 10}}))
	w.CommitMany(350)
	w.Drain(s)
	archived("for what was reported", s, 1)
	w.Must(log.Report(w.Ctx, "mails", map[int]unilog.Cursor{0: {Offset: 100}}))
	archived("after the next report", s, 101)
	if n := w.LogLength(); n < 250 || n > 349 { // Redis trims by nodes
		t.Errorf("the log holds %d entries, want 250 or a few more", n)
	}
	w.Wipe()
	archived("when the log has lost the report", s, 101)
	w.Drain(s)
	w.WantCount("published again", w.LogLength(), 250)

	// It counts as the consumer of this database that it has become.
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset", outside) VALUES ('mails', 0, 200, true)`)
	archived("for its checkpoint", s, 201)
	w.Exec(`DELETE FROM unilog.checkpoints`)

	w.Exec(`UPDATE unilog.readers SET "offset" = 210, reported_at = reported_at - interval '8 days'`)
	last := kept(w, 341)
	for range 4 {
		upkeep(w, s)
	}
	w.WantCount("archived when it has expired", world.Query[int](w, `SELECT count(*) FROM unilog.records`), last)
	s.Close()

	w.CommitMany(300)
	w.Must(log.Report(w.Ctx, "mails", map[int]unilog.Cursor{0: {Offset: 350}}))
	s = with(false)
	w.Drain(s)
	archived("by a streamer that was not asked", s, 641)
}

func TestStreamerWithoutConsumersInItsDatabase(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Exec(`ALTER TABLE unilog.checkpoints RENAME TO elsewhere`)
	s := w.Streamer()
	w.CommitMany(10)
	w.WantCount("published", w.Drain(s), 10)
	upkeep(w, s)
	w.Exec(`ALTER TABLE unilog.elsewhere RENAME TO checkpoints`)
}

func TestFailedUpkeepDoesNotStopThePublishing(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
	})
	w.CommitMany(150)
	w.Drain(s)
	w.Exec(`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nothing goes'; END $$`)
	w.Exec(`CREATE TRIGGER keep BEFORE DELETE ON unilog.batches FOR EACH ROW EXECUTE FUNCTION keep()`)
	upkeep(w, s)
	w.WantCount("archived when none could go", world.Query[int](w, `SELECT count(*) FROM unilog.records`), 150)
	w.CommitMany(150)
	w.WantCount("published", w.Drain(s), 150)
	w.Exec(`DROP TRIGGER keep ON unilog.batches`)
	last := kept(w, 291)
	upkeep(w, s)
	w.WantCount("archived", world.Query[int](w, `SELECT count(*) FROM unilog.records`), last)
}

// TestSlowConsumerDelaysNobody keeps one consumer in its transaction while the
// others get everything done.
func TestSlowConsumerDelaysNobody(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.KeepRecords = 10 })
	w.CommitMany(5)
	w.Drain(s)
	busy, goOn := make(chan struct{}), make(chan struct{})
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	slow := w.Consumer("slow", func(cfg *consumer.Config) {
		cfg.HandlerTimeout = await.Patience // the others take what time they need
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if !world.Happened(busy) {
				close(busy)
				<-goOn
			}
			return add(ctx, tx, entries)
		}
	})
	var slowly errgroup.Group
	slowly.Go(func() error { return persistently(w.Ctx, slow.RunOnce) })
	await.Receive(t, "the slow one to be busy", busy)
	w.WantCount("applied by a new consumer", w.Consume(w.Consumer("quick")), 5)
	for range 3 {
		w.CommitMany(100)
		w.WantCount("published", w.Drain(s), 100)
		upkeep(w, s)
		w.WantCount("applied by the others", w.Consume(w.Consumer("quick")), 100)
	}
	release()
	w.Must(slowly.Wait())
	w.WantTotal("slow", "5")
	w.WantCount("applied by the slow one afterwards", w.Consume(slow), 300)
}

// TestFarBehindTheLog takes the ways out of a gap that the errors name: to give
// a consumer the archive, and to start it at the head when that lacks the
// records, too.
func TestFarBehindTheLog(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 50, 10, time.Nanosecond
	})
	alone := func(cfg *consumer.Config) { cfg.Archive = nil }
	w.CommitMany(20)
	w.Drain(s)
	w.Consume(w.Consumer("behind", alone))
	w.CommitMany(500)
	w.Drain(s)
	w.Command("XTRIM", w.Stream, "MAXLEN", "10")
	var gap *unilog.GapError
	if _, err := w.Timely(w.Consumer("behind", alone).RunOnce); !errors.As(err, &gap) || gap.From != 21 || gap.To != 510 || gap.Archive {
		t.Errorf("without the archive it says %v, want a gap from 21 to 510", err)
	}
	w.WantCount("applied with the archive", w.Consume(w.Consumer("behind")), 500)
	w.WantTotal("behind", "520")

	upkeep(w, s) // the streamer itself drops what all have applied
	lost := world.Query[int64](w, `SELECT min(first_offset) - 1 FROM unilog.batches`)
	gap = nil
	if _, err := w.Timely(w.Consumer("late").RunOnce); !errors.As(err, &gap) || lost == 0 || gap.From != 1 || gap.To != lost || !gap.Archive {
		t.Errorf("when the archive lacks them, too, it says %v, want a gap from 1 to %d", err, lost)
	}
	w.Exec(`DELETE FROM unilog.checkpoints WHERE name = 'late'`)
	created, err := world.Audit.Bootstrap(w.Ctx, w.DB, "late")
	w.Must(err)
	if !created {
		t.Error("it was not bootstrapped")
	}
	w.Commit("1000")
	w.Drain(s)
	w.WantCount("applied when it was bootstrapped", w.Consume(w.Consumer("late")), 1)
	w.WantTotal("late", "1520")
	w.Consume(w.Consumer("behind"))
}

// TestPartitionIsRebuilt loses one partition of the log.
func TestPartitionIsRebuilt(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(3, 1)
	all := world.Keys(12)
	s := w.Streamer()
	w.CommitKeyed(1, 10, all...)
	w.Drain(s)
	w.Command("DEL", w.Stream+":1", "{"+w.Stream+":1}:leader")
	w.CommitKeyed(11, 12, all...)
	w.Drain(s)
	wantKeys(w, 3, 12, all...)
}
