package streamer_test

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

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// asleep runs a streamer that nothing but a writer wakes, and lets it fall
// asleep.
func asleep(w *world.World) {
	w.Helper()
	w.Exec(`
		CREATE FUNCTION be_awake() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			IF EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 2 AND objid = 0
				AND pid = pg_backend_pid() -- or else of a session that was given up
				AND classid::integer = ` + locks.Staged + `
				AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) THEN
				RAISE EXCEPTION 'the one that numbers makes writers notify while it does';
			END IF;
			RETURN NULL;
		END $$`)
	w.Exec(`CREATE TRIGGER awake BEFORE INSERT ON unilog.batches FOR EACH STATEMENT EXECUTE FUNCTION be_awake()`)
	w.Runs(func(cfg *streamer.Config) {
		*cfg = streamer.WithoutClock(*cfg)
		cfg.Observer.Failed = unlessSlow(func(err error) { w.Errorf("%v", err) })
	})
	w.AwaitSleep()
}

// lastLook returns when the session that numbers last looked for staged records.
func lastLook(w *world.World) time.Time {
	w.Helper()
	return world.Query[time.Time](w, `SELECT coalesce(max(state_change), 'epoch') FROM pg_stat_activity
		WHERE datname = current_database() AND query LIKE '%FROM unilog.staged\_records WHERE id >%' AND pid <> pg_backend_pid()`)
}

// lastSign returns when the one of two sessions that has said nothing for longer last
// did something: that which sleeps, and that which has the locks.
func lastSign(w *world.World) time.Time {
	w.Helper()
	return world.Query[time.Time](w, `SELECT coalesce(min(state_change), 'epoch') FROM pg_stat_activity AS a JOIN pg_locks AS l USING (pid)
		WHERE l.locktype = 'advisory' AND l.database = a.datid AND a.datname = current_database() AND l.mode = 'ExclusiveLock'
			AND (l.classid::integer = `+locks.Leader+` OR l.classid::integer = `+locks.Staged+` AND l.objid = $1)`, locks.Sleep)
}

func TestWriterWakesTheLeader(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	asleep(w)
	for i := range 20 {
		w.Commit("5")
		w.Published(i + 1)
	}
	if !t.Run("by COPY", func(t *testing.T) {
		tx := w.Begin()
		_, err := tx.Exec(w.Ctx, `INSERT INTO amounts (amount) VALUES (1)`)
		w.Must(err)
		_, err = tx.CopyFrom(w.Ctx, pgx.Identifier{"unilog", "staged_records"}, []string{"action", "object", "data"},
			pgx.CopyFromRows([][]any{{"create", "amount", map[string]int{"amount": 1}}}))
		w.Must(err)
		w.Must(tx.Commit(w.Ctx))
		w.Published(21)
	}) {
		t.FailNow() // or the next part would wait in vain
	}
	t.Run("after a rollback", func(t *testing.T) {
		tx := w.Begin()
		w.Note(tx, "7")
		w.Must(tx.Rollback(w.Ctx))
		w.Commit("8")
		w.Published(22)
	})
}

// TestWritersWhileTheLeaderLiesDown writes all the time, and so between any two of
// the leader's steps.
func TestWritersWhileTheLeaderLiesDown(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	asleep(w)
	written := 0
	for range 150 {
		var writers sync.WaitGroup
		for range 3 {
			moments := rand.IntN(15)
			writers.Go(func() {
				for range moments {
					w.Exec(`SELECT`)
				}
				w.Commit("1")
			})
			written++
		}
		writers.Wait()
		awaitEntriesAtOnce(w, written)
	}
}

// awaitEntriesAtOnce is awaitEntries without a pause, which would leave time to lie
// down.
func awaitEntriesAtOnce(w *world.World, n int) {
	w.Helper()
	for over := time.Now().Add(await.Patience); ; {
		entries := w.LogLength()
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
	w := world.SetupOnRedis(t)
	config := w.DB.Config()
	config.ConnConfig.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: time.Hour}
	}
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, db)
	w.Runs(func(cfg *streamer.Config) {
		*cfg = streamer.WithUpkeepPause(*cfg, time.Hour)
		cfg.SessionTimeout = time.Second
		cfg.DB = db
	})
	var term, looks int64
	var last time.Time
	w.Await("a leader to say three times in its sleep that it lives", func() string {
		if !w.Sleeps() {
			looks = 0
			return "it is awake"
		}
		epoch, look := world.Query[int64](w, `SELECT epoch FROM unilog.log`), lastSign(w)
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
	w := world.SetupOnRedis(t)
	w.CommitMany(30)
	w.Runs(func(cfg *streamer.Config) { cfg.BatchRecords = 10 })
	w.Published(30)
	w.Wipe()
	w.AwaitEntries(30)
}

// TestLeaderStaysAwakeForAWriterAtWork lets a writer begin while the leader is
// awake: it will not notify, so the leader must not sleep before it has ended.
func TestLeaderStaysAwakeForAWriterAtWork(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	tx := w.Begin()
	w.Note(tx, "1")
	s := w.Streamer(func(cfg *streamer.Config) { *cfg = streamer.WithoutClock(*cfg) })
	ctx, stop := context.WithCancel(w.Ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	w.Commit("2")
	w.AwaitEntries(1)
	// It keeps looking.
	for range 5 {
		before := lastLook(w)
		w.Await("the leader to look", func() string {
			if last := lastLook(w); !last.After(before) {
				return fmt.Sprintf("it last looked at %v", last)
			}
			return ""
		})
	}
	w.Must(tx.Commit(w.Ctx))
	w.Published(2)
	stop()
	w.Must(world.Receive(w, "the streamer to end", done))
}

// TestPreparedTransactions stages in transactions that are prepared before they
// are committed, as one that has notified cannot be.
func TestPreparedTransactions(t *testing.T) {
	t.Parallel()
	w, server := world.SetupOwn(t)
	w.Exec(`ALTER SYSTEM SET max_prepared_transactions = 5`)
	w.Must(server.Stop(w.Ctx))
	testenv.Restart(t, server)
	w.DB.Reset()
	s := w.Streamer()
	ctx, stop := context.WithCancel(w.Ctx)
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for i := range int64(10) {
		// It is idle when it has recorded what it published.
		w.AwaitTrue("the streamer to be idle", `SELECT published_offset = $1 AND epoch > 0 FROM unilog.partitions`, i)
		tx := w.Begin()
		w.Note(tx, "1")
		_, err := tx.Exec(w.Ctx, `PREPARE TRANSACTION 'two phases'`)
		w.Must(err)
		w.Must(tx.Rollback(w.Ctx)) // there is none any more
		w.Exec(`COMMIT PREPARED 'two phases'`)
	}
	w.AwaitEntries(10)
	stop()
	w.Must(world.Receive(w, "the streamer to end", done))
}

// TestNotificationsDoNotPileUp publishes without ever waiting for a notification, while
// another streamer leads a partition.
func TestNotificationsDoNotPileUp(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(2, 1)
	other := w.Begin()
	_, err := other.Exec(w.Ctx, `SELECT pg_advisory_xact_lock(`+locks.Leader+`, 1)`)
	w.Must(err)
	s := w.Streamer()
	w.Drain(s)
	listener := s.Sessions()[0]
	for range 50 {
		w.CommitMany(2)
		w.Drain(s)
	}
	over, cancel := context.WithCancel(w.Ctx)
	cancel()
	n := 0
	for err = nil; err == nil; n++ {
		_, err = listener.WaitForNotification(over)
	}
	if n > 10 {
		t.Errorf("%d notifications are kept", n)
	}
}
