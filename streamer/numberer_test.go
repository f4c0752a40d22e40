package streamer_test

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// running runs a streamer until stop is called.
func running(w *world.World, s *streamer.Streamer) (stop func()) {
	ctx, cancel := context.WithCancel(w.Ctx)
	w.Cleanup(cancel)
	var group errgroup.Group
	group.Go(func() error { return s.Run(ctx) })
	return func() { w.Helper(); cancel(); w.Ended("the streamer", &group) }
}

// TestRunAfterRunOnce lets Run go on with the lead that RunOnce took.
func TestRunAfterRunOnce(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(2, 1)
	s := w.Streamer()
	w.Drain(s)
	stop := running(w, s)
	w.CommitMany(10)
	w.AwaitPublished(10)
	stop()
}

// TestNumberingThatTakesTooLong has a server that ends a statement which numbers more
// than four records, as its statement_timeout would.
func TestNumberingThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Repartition(partitions, 1)
			w.Exec(`
				CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN
					IF (SELECT count(*) FROM numbered) > 4 THEN
						RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
					END IF;
					RETURN NULL;
				END $$`)
			w.Exec(`CREATE TRIGGER slow AFTER INSERT ON log_records REFERENCING NEW TABLE AS numbered EXECUTE FUNCTION be_slow()`)
			stop := running(w, w.Streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 16 }))
			w.CommitMany(32)
			w.AwaitPublished(32)
			stop()
		})
	}
}

// TestLostNumbererIsReplacedDuringABacklog ends the session that numbers while the
// first partition of the log is published again. Its successor numbers before that
// is done.
func TestLostNumbererIsReplacedDuringABacklog(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	const backlog = 5
	byPartition := map[int]string{}
	for _, key := range world.Keys(20) {
		byPartition[unilog.PartitionOf(key, 2)] = key
	}
	first, second := byPartition[0], byPartition[1]
	s := w.Streamer()
	w.CommitKeyed(1, backlog, first)
	w.Drain(s)
	s.Close()
	w.Wipe()

	published := 0
	s = w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords = 1
		cfg.Hooks.AfterAppend = func(_ context.Context, entries []unilog.Entry) error {
			if entries[0].Partition != 0 {
				return nil
			}
			switch published++; published {
			case 1:
				w.Exec(`SELECT pg_terminate_backend($1)`, s.Sessions(0)[1].PgConn().PID())
				world.Receive(w, "the numbering to end", s.Numbering())
				w.CommitKeyed(1, 1, second)
			case 2:
				world.AwaitQuery(w, "the number of staged records", 0, `SELECT count(*) FROM staged_log_records`)
			}
			return nil
		}
	})
	stop := running(w, s)
	w.AwaitPublished(backlog + 1)
	stop()
	if published < 2 {
		t.Errorf("%d records were published again", published)
	}
}

// TestNotificationsDoNotPileUp publishes without ever waiting for a notification.
func TestNotificationsDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(2, 1)
	s := w.Streamer()
	for range 50 {
		w.CommitMany(2)
		w.Drain(s)
	}
	for p := range 2 {
		if n := s.Notifications(p); n > 10 {
			t.Errorf("partition %d: %d notifications are kept", p, n)
		}
	}
}

// TestStreamerThatCannotReachTheLog lets one of two lose its way to the log, but not
// to the database.
func TestStreamerThatCannotReachTheLog(t *testing.T) {
	t.Parallel()
	n := world.SetupNetwork(t)
	n.Repartition(4, 1)
	one, leads := countedStreamer(n.World)
	stopOne := running(n.World, one)
	stopTwo := running(n.World, n.Streamer(func(cfg *streamer.Config) { cfg.Log = n.FarLog }))
	leadsOf := func(want int64) {
		n.Helper()
		world.AwaitEqual(n.World, "the partitions that one leads", want, leads.Load)
	}
	leadsOf(2)
	n.Redis.Refuse(true)
	n.Redis.Cut()
	all := world.Keys(8)
	n.CommitKeyed(1, 5, all...)
	n.AwaitPublished(5 * len(all))
	leadsOf(4)
	n.Redis.Refuse(false)
	leadsOf(2)
	n.CommitKeyed(6, 10, all...)
	n.AwaitPublished(10 * len(all))
	stopTwo()
	stopOne()
	wantKeys(n.World, 4, 10, all...)
}

// TestNumbererWaitsForTheHeads numbers while another transaction gives offsets of its
// own.
func TestNumbererWaitsForTheHeads(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	s := w.Streamer()
	w.CommitMany(2)
	w.Drain(s)
	tx := w.Begin()
	_, err := tx.Exec(w.Ctx, `INSERT INTO log_records (partition, "offset", size, staged_at, action, object, key, data, headers)
		SELECT partition, next_offset, 0, now(), 'note', 'nothing', '', '{"amount": 0}', '{}' FROM log_partitions`)
	w.Must(err)
	_, err = tx.Exec(w.Ctx, `UPDATE log_partitions SET next_offset = next_offset + 1`)
	w.Must(err)
	w.CommitMany(2)
	var numbering errgroup.Group
	numbering.Go(func() error { _, err := s.RunOnce(w.Ctx); return err })
	w.AwaitTrue("the numbering to wait for the heads", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	w.Must(tx.Commit(w.Ctx))
	w.Ended("the numbering", &numbering)
	w.Drain(s)
	w.AwaitPublished(6)
}
