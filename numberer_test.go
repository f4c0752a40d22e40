package unilog_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// running runs a streamer until stop is called.
func (w *world) running(s *unilog.Streamer) (stop func()) {
	ctx, cancel := context.WithCancel(w.ctx)
	w.Cleanup(cancel)
	var group errgroup.Group
	group.Go(func() error { return s.Run(ctx) })
	return func() { w.Helper(); cancel(); w.must(group.Wait()) }
}

func (w *world) eventuallyPublished(n int) {
	w.Helper()
	w.eventually(func() bool {
		return query[int](w, `SELECT sum(published_offset)::int FROM log_partitions`) == n
	})
}

// TestRunAfterRunOnce lets Run go on with the lead that RunOnce took.
func TestRunAfterRunOnce(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(2, 1)
	s := w.streamer()
	w.drain(s)
	stop := w.running(s)
	w.commitMany(10)
	w.eventuallyPublished(10)
	stop()
}

// TestNumberingThatTakesTooLong has a server that ends a statement which numbers more
// than four records.
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
					IF (SELECT count(*) FROM numbered) > 4 THEN PERFORM pg_sleep(60); END IF;
					RETURN NULL;
				END $$`)
			w.exec(`CREATE TRIGGER slow AFTER INSERT ON log_records REFERENCING NEW TABLE AS numbered EXECUTE FUNCTION be_slow()`)
			config := w.db.Config()
			config.ConnConfig.RuntimeParams["statement_timeout"] = "500ms"
			db, err := pgxpool.NewWithConfig(w.ctx, config)
			w.must(err)
			t.Cleanup(db.Close)
			stop := w.running(w.streamer(func(cfg *unilog.StreamerConfig) { cfg.DB, cfg.BatchRecords = db, 16 }))
			w.commitMany(32)
			w.eventuallyPublished(32)
			stop()
		})
	}
}

// TestLostNumbererIsReplacedDuringABacklog ends the session that numbers while the
// first partition of the log is published again, slowly.
func TestLostNumbererIsReplacedDuringABacklog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(2, 1)
	const backlog = 200
	byPartition := map[int]string{}
	for _, key := range keys(20) {
		byPartition[unilog.PartitionOf(key, 2)] = key
	}
	first, second := byPartition[0], byPartition[1]
	s := w.streamer()
	w.commitKeyed(1, backlog, first)
	w.drain(s)
	s.Resign()
	w.wipe()

	const numbers = `classid = 1970040680 AND objsubid = 2 AND mode = 'ExclusiveLock' AND granted
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	published, numbered := 0, false
	s = w.streamer(func(cfg *unilog.StreamerConfig) {
		cfg.BatchRecords = 1
		cfg.Hooks.AfterAppend = func(_ context.Context, entries []unilog.Entry) error {
			if entries[0].Partition != 0 || numbered {
				return nil
			}
			if published++; published == 1 {
				w.eventually(func() bool {
					return query[int](w, `SELECT count(pg_terminate_backend(pid)) FROM pg_locks WHERE `+numbers) == 1
				})
				w.commitKeyed(1, 1, second)
			}
			time.Sleep(10 * time.Millisecond)
			numbered = query[int](w, `SELECT count(*) FROM staged_log_records`) == 0
			return nil
		}
	})
	stop := w.running(s)
	w.eventuallyPublished(backlog + 1)
	stop()
	if published >= backlog {
		t.Errorf("a record of the second partition was numbered after all %d of the first one were published", published)
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
	one, leads := n.countedStreamer()
	stopOne := n.running(one)
	stopTwo := n.running(n.streamer(func(cfg *unilog.StreamerConfig) { cfg.Log = n.farLog }))
	n.eventually(func() bool { return leads.Load() == 2 })
	n.redis.Refuse(true)
	n.redis.Cut()
	all := keys(8)
	n.commitKeyed(1, 5, all...)
	n.eventuallyPublished(5 * len(all))
	n.eventually(func() bool { return leads.Load() == 4 })
	n.redis.Refuse(false)
	n.eventually(func() bool { return leads.Load() == 2 })
	n.commitKeyed(6, 10, all...)
	n.eventuallyPublished(10 * len(all))
	stopTwo()
	stopOne()
	n.wantKeys(4, 10, all...)
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
	w.eventually(func() bool {
		return query[bool](w, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	})
	w.must(tx.Commit(w.ctx))
	w.must(numbering.Wait())
	w.drain(s)
	w.eventuallyPublished(6)
}
