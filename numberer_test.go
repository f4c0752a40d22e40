package unilog_test

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// running runs a streamer until stop is called.
func running(w *world, s *unilog.Streamer) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	w.Cleanup(cancel)
	var group errgroup.Group
	group.Go(func() error { return s.Run(ctx) })
	return func() { w.Helper(); cancel(); w.ended("the streamer", &group) }
}

// TestRunAfterRunOnce lets Run go on with the lead that RunOnce took.
func TestRunAfterRunOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(2, 1)
	s := w.streamer()
	w.drain(s)
	stop := running(w, s)
	w.commitMany(10)
	w.awaitPublished(10)
	stop()
}

// TestNumberingThatTakesTooLong has a server that ends a statement which numbers more
// than four records, as its statement_timeout would.
func TestNumberingThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.repartition(partitions, 1)
			w.exec(`
				CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN
					IF (SELECT count(*) FROM numbered) > 4 THEN
						RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
					END IF;
					RETURN NULL;
				END $$`)
			w.exec(`CREATE TRIGGER slow AFTER INSERT ON log_records REFERENCING NEW TABLE AS numbered EXECUTE FUNCTION be_slow()`)
			stop := running(w, w.streamer(func(cfg *unilog.StreamerConfig) { cfg.BatchRecords = 16 }))
			w.commitMany(32)
			w.awaitPublished(32)
			stop()
		})
	}
}

// TestLostNumbererIsReplacedDuringABacklog ends the session that numbers while the
// first partition of the log is published again. Its successor numbers before that
// is done.
func TestLostNumbererIsReplacedDuringABacklog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(2, 1)
	const backlog = 5
	byPartition := map[int]string{}
	for _, key := range keys(20) {
		byPartition[unilog.PartitionOf(key, 2)] = key
	}
	first, second := byPartition[0], byPartition[1]
	s := w.streamer()
	w.commitKeyed(1, backlog, first)
	w.drain(s)
	s.Close()
	w.wipe()

	published := 0
	s = w.streamer(func(cfg *unilog.StreamerConfig) {
		cfg.BatchRecords = 1
		cfg.Hooks.AfterAppend = func(_ context.Context, entries []unilog.Entry) error {
			if entries[0].Partition != 0 {
				return nil
			}
			switch published++; published {
			case 1:
				w.exec(`SELECT pg_terminate_backend($1)`, s.Sessions(0)[1].PgConn().PID())
				receive(w, "the numbering to end", s.Numbering())
				w.commitKeyed(1, 1, second)
			case 2:
				awaitQuery(w, "the number of staged records", 0, `SELECT count(*) FROM staged_log_records`)
			}
			return nil
		}
	})
	stop := running(w, s)
	w.awaitPublished(backlog + 1)
	stop()
	if published < 2 {
		t.Errorf("%d records were published again", published)
	}
}

// TestNotificationsDoNotPileUp publishes without ever waiting for a notification.
func TestNotificationsDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(2, 1)
	s := w.streamer()
	for range 50 {
		w.commitMany(2)
		w.drain(s)
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
	n := setupNetwork(t)
	n.repartition(4, 1)
	one, leads := countedStreamer(n.world)
	stopOne := running(n.world, one)
	stopTwo := running(n.world, n.streamer(func(cfg *unilog.StreamerConfig) { cfg.Log = n.farLog }))
	leadsOf := func(want int64) { n.Helper(); awaitEqual(n.world, "the partitions that one leads", want, leads.Load) }
	leadsOf(2)
	n.redis.Refuse(true)
	n.redis.Cut()
	all := keys(8)
	n.commitKeyed(1, 5, all...)
	n.awaitPublished(5 * len(all))
	leadsOf(4)
	n.redis.Refuse(false)
	leadsOf(2)
	n.commitKeyed(6, 10, all...)
	n.awaitPublished(10 * len(all))
	stopTwo()
	stopOne()
	wantKeys(n.world, 4, 10, all...)
}

// TestNumbererWaitsForTheHeads numbers while another transaction gives offsets of its
// own.
func TestNumbererWaitsForTheHeads(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(2, 1)
	s := w.streamer()
	w.commitMany(2)
	w.drain(s)
	tx := w.begin()
	_, err := tx.Exec(w.ctx, `INSERT INTO log_records (partition, "offset", size, staged_at, action, object, key, data, headers)
		SELECT partition, next_offset, 0, now(), 'note', 'nothing', '', '{"amount": 0}', '{}' FROM log_partitions`)
	w.must(err)
	_, err = tx.Exec(w.ctx, `UPDATE log_partitions SET next_offset = next_offset + 1`)
	w.must(err)
	w.commitMany(2)
	var numbering errgroup.Group
	numbering.Go(func() error { _, err := s.RunOnce(w.ctx); return err })
	w.awaitTrue("the numbering to wait for the heads", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	w.must(tx.Commit(w.ctx))
	w.ended("the numbering", &numbering)
	w.drain(s)
	w.awaitPublished(6)
}
