package unilog_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

func TestStreamerKeepsTheLogShort(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer(func(cfg *unilog.StreamerConfig) { cfg.KeepRecords = 100 })
	ones := func(cfg *unilog.ConsumerConfig) { cfg.Handler = addOnes }
	slow := w.consumer("slow", ones)
	w.commitMany(15_000) // more than Redis trims at once
	w.drain(s)
	w.must(s.Upkeep(w.ctx))
	// Redis trims by nodes of about a hundred entries.
	length := w.streamLength
	if n := length(); n < 100 || n > 250 {
		t.Errorf("the stream keeps %d entries without consumers, want 100 or a few more", n)
	}
	w.wantCount("applied from the archive", w.consume(slow), 15_000)

	w.exec(`UPDATE checkpoints SET "offset" = 14900`)
	w.commitMany(1000)
	w.drain(s)
	w.must(s.Upkeep(w.ctx))
	if n := length(); n < 1100 {
		t.Errorf("the stream keeps %d entries, and a consumer has yet to read the last 1,100", n)
	}
	w.exec(`UPDATE checkpoints SET "offset" = 15000`)
	w.consume(w.consumer("slow", ones))
	w.must(s.Upkeep(w.ctx))
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
	w := setup(t)
	retention := time.Hour
	s := func() *unilog.Streamer {
		return w.streamer(func(cfg *unilog.StreamerConfig) {
			*cfg = unilog.WithChunkRecords(*cfg, 100)
			cfg.BatchRecords, cfg.KeepRecords = 30, 10
			cfg.Retention = retention
		})
	}
	streamer := s()
	c := w.consumer("sum")
	archived := func() int {
		w.must(streamer.Upkeep(w.ctx))
		return query[int](w, `SELECT count(*) FROM log_records`)
	}
	w.commitMany(550)
	w.drain(streamer)
	w.consume(c)
	w.wantCount("archived within the retention", archived(), 550)

	w.exec(`UPDATE log_records SET numbered_at = numbered_at - interval '2 hours'`)
	w.exec(`UPDATE checkpoints SET "offset" = 250`)
	w.wantCount("archived for a consumer that is behind", archived(), 350)
	w.exec(`UPDATE checkpoints SET "offset" = 550`)
	// A reader that stays for long holds nobody up.
	reader := w.begin()
	_, err := reader.Exec(w.ctx, `SELECT count(*) FROM log_records`)
	w.must(err)
	w.wantCount("archived while somebody reads", archived(), 350)
	w.must(reader.Rollback(w.ctx))
	w.wantCount("archived when everyone has applied it", archived(), 50)
	chunks := query[int](w, `SELECT count(*) FROM pg_inherits WHERE inhparent = 'log_records'::regclass`)
	if chunks > 3 {
		t.Errorf("%d chunks are left", chunks)
	}

	// Another leader goes on with the chunks that it finds.
	streamer.Close()
	streamer = s()
	w.commitMany(100)
	w.wantCount("published after a change of leader", w.drain(streamer), 100)
	w.consume(c)
	w.wantTotal("sum", "650")
}

// TestDroppedIsRecorded sees that the next leader does not look for records that
// the one before has published and dropped.
func TestDroppedIsRecorded(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(*cfg, 2)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 10, 1, time.Nanosecond
	})
	c := w.consumer("sum")
	w.consume(c)
	w.commitMany(10)
	_, err := s.RunOnce(w.ctx) // published, and the database does not know yet
	w.must(err)
	w.consume(c)
	w.must(s.Upkeep(w.ctx))
	s.Close()
	w.commit("1")
	w.wantCount("published by the next leader", w.drain(s), 1)
	w.consume(c)
	w.wantTotal("sum", "11")
}

func TestExpiredConsumerHoldsNothingBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithChunkRecords(*cfg, 100)
		cfg.BatchRecords, cfg.KeepRecords, cfg.Retention = 30, 10, time.Nanosecond
	})
	w.consume(w.consumer("gone")) // registers
	w.commitMany(350)
	w.drain(s)
	w.must(s.Upkeep(w.ctx))
	w.wantCount("archived for it", query[int](w, `SELECT count(*) FROM log_records`), 350)
	w.exec(`UPDATE checkpoints SET updated_at = updated_at - interval '8 days'`)
	w.must(s.Upkeep(w.ctx))
	w.wantCount("archived when it has expired", query[int](w, `SELECT count(*) FROM log_records`), 50)
	w.exec(`DELETE FROM checkpoints`) // it can never agree again
}
