package unilog_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// asleep runs a streamer that nothing but a writer wakes, and lets it fall
// asleep.
func asleep(w *world) {
	w.Helper()
	w.runs(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithoutClock(*cfg)
		cfg.Log = gatedLog{w.log, func([]unilog.Entry) {
			if w.sleeps() {
				w.Errorf("the leader makes writers notify while it is awake")
			}
		}}
	})
	w.awaitSleep()
}

// lastLook returns when the leader's session last did something.
func lastLook(w *world) time.Time {
	return query[time.Time](w, `SELECT max(state_change) FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
		WHERE l.locktype = 'advisory' AND l.database = a.datid AND a.datname = current_database() AND l.classid = 1970040679`)
}

func TestWriterWakesTheLeader(t *testing.T) {
	t.Parallel()
	w := setup(t)
	asleep(w)
	for i := range 20 {
		w.commit("5")
		w.published(i + 1)
	}
	if !t.Run("by COPY", func(t *testing.T) {
		tx := w.begin()
		_, err := tx.Exec(w.ctx, `INSERT INTO amounts (amount) VALUES (1)`)
		w.must(err)
		_, err = tx.CopyFrom(w.ctx, pgx.Identifier{"staged_log_records"}, []string{"action", "object", "data"},
			pgx.CopyFromRows([][]any{{"create", "amount", map[string]int{"amount": 1}}}))
		w.must(err)
		w.must(tx.Commit(w.ctx))
		w.published(21)
	}) {
		t.FailNow() // or the next part would wait in vain
	}
	t.Run("after a rollback", func(t *testing.T) {
		tx := w.begin()
		w.note(tx, "7")
		w.must(tx.Rollback(w.ctx))
		w.commit("8")
		w.published(22)
	})
}

// TestWritersWhileTheLeaderLiesDown writes all the time, and so between any two of
// the leader's steps.
func TestWritersWhileTheLeaderLiesDown(t *testing.T) {
	t.Parallel()
	w := setup(t)
	asleep(w)
	written := 0
	for range 150 {
		var writers sync.WaitGroup
		for range 3 {
			moments := rand.IntN(15)
			writers.Go(func() {
				for range moments {
					w.exec(`SELECT`)
				}
				w.commit("1")
			})
			written++
		}
		writers.Wait()
		awaitEntriesAtOnce(w, written)
	}
}

// awaitEntriesAtOnce is awaitEntries without a pause, which would leave time to lie
// down.
func awaitEntriesAtOnce(w *world, n int) {
	w.Helper()
	for over := time.Now().Add(await.Patience); ; {
		entries := w.streamLength()
		if entries == n {
			return
		}
		if time.Now().After(over) {
			w.Fatal(fmt.Sprintf("waited %v for %d entries; instead: %d", await.Patience, n, entries))
		}
	}
}

// TestSleepingLeaderKeepsTheLead lets it say now and then that it lives, whatever
// the pool's connections do when a context ends. A machine that is too slow for the
// time that it may be silent costs it the lead: the next term will do.
func TestSleepingLeaderKeepsTheLead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	config := w.db.Config()
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Hour}
	}
	db, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	t.Cleanup(db.Close)
	w.runs(func(cfg *unilog.StreamerConfig) {
		*cfg = unilog.WithUpkeepPause(*cfg, time.Hour)
		cfg.SessionTimeout = time.Second
		cfg.DB = db
	})
	var term, looks int64
	var last time.Time
	w.await("a leader to say three times in its sleep that it lives", func() string {
		if !w.sleeps() {
			looks = 0
			return "it is awake"
		}
		epoch, look := query[int64](w, `SELECT epoch FROM log_partitions`), lastLook(w)
		switch {
		case looks == 0 || epoch != term:
			term, looks, last = epoch, 1, look
		case look.After(last):
			looks, last = looks+1, look
		}
		if looks < 4 { // the first of which is how it fell asleep
			return fmt.Sprintf("%d looks in epoch %d, the last one at %v", looks, epoch, last)
		}
		return ""
	})
}

// TestRebuildWakesTheLeader empties the log while the leader sleeps.
func TestRebuildWakesTheLeader(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(30)
	w.runs(func(cfg *unilog.StreamerConfig) {
		cfg.BatchRecords = 10
		cfg.Log = gatedLog{w.log, func(entries []unilog.Entry) {
			if w.sleeps() {
				w.Errorf("the leader makes writers notify while it publishes from %d", entries[0].Offset)
			}
		}}
	})
	w.published(30)
	w.wipe()
	w.awaitEntries(30)
}

// TestLeaderStaysAwakeForAWriterAtWork lets a writer begin while the leader is
// awake: it will not notify, so the leader must not sleep before it has ended.
func TestLeaderStaysAwakeForAWriterAtWork(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tx := w.begin()
	w.note(tx, "1")
	s := w.streamer(func(cfg *unilog.StreamerConfig) { *cfg = unilog.WithoutClock(*cfg) })
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.commit("2")
	w.awaitEntries(1)
	// It keeps looking.
	for range 5 {
		before := lastLook(w)
		w.await("the leader to look", func() string {
			if last := lastLook(w); !last.After(before) {
				return fmt.Sprintf("it last looked at %v", last)
			}
			return ""
		})
	}
	w.must(tx.Commit(w.ctx))
	w.published(2)
	stop()
	w.must(receive(w, "the streamer to end", done))
}

// TestPreparedTransactions stages in transactions that are prepared before they
// are committed, as one that has notified cannot be.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	w, server := setupOwn(t)
	w.exec(`ALTER SYSTEM SET max_prepared_transactions = 5`)
	w.must(server.Stop(w.ctx))
	testenv.Restart(t, server)
	w.db.Reset()
	s := w.streamer()
	ctx, stop := context.WithCancel(w.ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for i := range int64(10) {
		// It is idle when it has recorded what it published.
		w.awaitTrue("the streamer to be idle", `SELECT published_offset = $1 AND epoch > 0 FROM log_partitions`, i)
		tx := w.begin()
		w.note(tx, "1")
		_, err := tx.Exec(w.ctx, `PREPARE TRANSACTION 'two phases'`)
		w.must(err)
		w.must(tx.Rollback(w.ctx)) // there is none any more
		w.exec(`COMMIT PREPARED 'two phases'`)
	}
	w.awaitEntries(10)
	stop()
	w.must(receive(w, "the streamer to end", done))
}
