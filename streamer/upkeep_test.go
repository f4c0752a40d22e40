package streamer_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
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
	w.Must(s.Upkeep(w.Ctx))
	// Redis trims by nodes of about a hundred entries.
	length := w.LogLength
	if n := length(); n < 100 || n > 250 {
		t.Errorf("the stream keeps %d entries without consumers, want 100 or a few more", n)
	}
	w.WantCount("applied from the archive", w.Consume(slow), 15_000)

	w.Exec(`UPDATE checkpoints SET "offset" = 14900`)
	w.CommitMany(1000)
	w.Drain(s)
	w.Must(s.Upkeep(w.Ctx))
	if n := length(); n < 1100 {
		t.Errorf("the stream keeps %d entries, and a consumer has yet to read the last 1,100", n)
	}
	w.Exec(`UPDATE checkpoints SET "offset" = 15000`)
	w.Consume(w.Consumer("slow", ones))
	w.Must(s.Upkeep(w.Ctx))
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

func TestArchiveDropsWhatNobodyNeeds(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	retention := time.Hour
	s := func() *streamer.Streamer {
		return w.Streamer(func(cfg *streamer.Config) {
			*cfg = streamer.WithChunkRecords(*cfg, 100)
			cfg.BatchRecords, cfg.KeepRecords = 30, 10
			cfg.Retention = retention
		})
	}
	streamer := s()
	c := w.Consumer("sum")
	archived := func() int {
		w.Must(streamer.Upkeep(w.Ctx))
		return world.Query[int](w, `SELECT count(*) FROM log_records`)
	}
	w.CommitMany(550)
	w.Drain(streamer)
	w.Consume(c)
	w.WantCount("archived within the retention", archived(), 550)

	w.Exec(`UPDATE log_records SET numbered_at = numbered_at - interval '2 hours'`)
	w.Exec(`UPDATE checkpoints SET "offset" = 250`)
	w.WantCount("archived for a consumer that is behind", archived(), 350)
	w.Exec(`UPDATE checkpoints SET "offset" = 550`)
	// A reader that stays for long holds nobody up.
	reader := w.Begin()
	_, err := reader.Exec(w.Ctx, `SELECT count(*) FROM log_records`)
	w.Must(err)
	w.WantCount("archived while somebody reads", archived(), 350)
	w.Must(reader.Rollback(w.Ctx))
	w.WantCount("archived when everyone has applied it", archived(), 50)
	chunks := world.Query[int](w, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_records'::regclass`)
	if chunks > 3 {
		t.Errorf("%d chunks are left", chunks)
	}

	// Another leader goes on with the chunks that it finds.
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
		*cfg = streamer.WithChunkRecords(*cfg, 2)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 10, 1, time.Nanosecond
	})
	c := w.Consumer("sum")
	w.Consume(c)
	w.CommitMany(10)
	_, err := s.RunOnce(w.Ctx) // published, and the database does not know yet
	w.Must(err)
	w.Consume(c)
	w.Must(s.Upkeep(w.Ctx))
	s.Close()
	w.Commit("1")
	w.WantCount("published by the next leader", w.Drain(s), 1)
	w.Consume(c)
	w.WantTotal("sum", "11")
}

func TestExpiredConsumerHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer(func(cfg *streamer.Config) {
		*cfg = streamer.WithChunkRecords(*cfg, 100)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
	})
	w.Consume(w.Consumer("gone")) // registers
	w.CommitMany(350)
	w.Drain(s)
	w.Must(s.Upkeep(w.Ctx))
	w.WantCount("archived for it", world.Query[int](w, `SELECT count(*) FROM log_records`), 350)
	w.Exec(`UPDATE checkpoints SET updated_at = updated_at - interval '8 days'`)
	w.Must(s.Upkeep(w.Ctx))
	w.WantCount("archived when it has expired", world.Query[int](w, `SELECT count(*) FROM log_records`), 50)
	w.Exec(`DELETE FROM checkpoints`) // it can never agree again
}
