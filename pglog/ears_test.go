package pglog_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

// TestPublishedRecordsWakeReaders switches the clocks off.
func TestPublishedRecordsWakeReaders(t *testing.T) {
	t.Parallel()
	w := setup(t)
	pglog.WithoutClock(w.log)
	s := w.streamer()
	w.drain(s)
	first, second := w.waiting(w.log, 0), w.waiting(w.log, 0)
	await.Equal(t, "listeners", 1, w.listeners)
	w.stage(1, 3)
	w.drain(s)
	w.want(first(), 1, 3)
	w.want(second(), 1, 3)
	await.True(t, "the log to know that it hears", w.log.Hears)
}

// muted is a log whose streamer may be told to notify nobody.
type muted struct {
	*pglog.Log
	db *pgxpool.Pool
	on atomic.Bool
}

func (m *muted) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	if !m.on.Load() {
		return m.Log.Append(ctx, term, entries)
	}
	last := entries[len(entries)-1].Offset
	_, err := m.db.Exec(ctx, `UPDATE unilog.partitions SET published_offset = $1`, last)
	return last, err
}

// TestMissedNotifications sees that a reader needs none.
func TestMissedNotifications(t *testing.T) {
	t.Parallel()
	w := setup(t)
	mute := &muted{Log: w.log, db: w.db}
	s := w.streamer(func(cfg *streamer.Config) { cfg.Log = mute })
	w.run(s.Run)
	n := int64(0)
	readOne := func() {
		read := w.waiting(w.log, n)
		n++
		w.stage(1, 1)
		w.want(read(), n, n)
	}
	// A read may look by the clock just before it would hear, and may be late, and so
	// miss nothing.
	await.True(t, "the log to have heard of a record", func() bool { readOne(); return w.log.Hears() })
	mute.on.Store(true)
	await.True(t, "the log to trust in notifications no more", func() bool { readOne(); return !w.log.Hears() })
}

// TestKilledListenerComesBack ends the connection that hears, switching the
// clocks off, so that only another one can wake the read.
func TestKilledListenerComesBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	pglog.WithoutClock(w.log)
	s := w.streamer()
	w.drain(s)
	read := w.waiting(w.log, 0)
	await.Equal(t, "listeners", 1, w.listeners)
	w.exec(`SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE ` + listening)
	await.Equal(t, "listeners", 1, w.listeners)
	w.stage(1, 1)
	w.drain(s)
	w.want(read(), 1, 1)
}

// TestListenerInABlackHoleComesBack loses what is sent on the connection that
// hears, which alone goes through a proxy, switching the clocks off.
func TestListenerInABlackHoleComesBack(t *testing.T) {
	t.Parallel()
	w := setup(t)
	way, err := proxy.For(w.db.Config().ConnString())
	w.must(err)
	t.Cleanup(way.Close)
	through, err := pgx.ParseConfig(way.URL())
	w.must(err)
	config := w.db.Config()
	config.MaxConns = 1
	var connections atomic.Int64
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if connections.Add(1) > 1 {
			c.Host, c.Port = through.Host, through.Port
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	testenv.ClosePool(t, pool)
	log := w.open(pool)
	pglog.WithoutClock(log)
	pglog.WithoutPatience(log)
	s := w.streamer()
	wakes := func() {
		t.Helper()
		head, err := log.Head(w.ctx, 0)
		w.must(err)
		woken := make(chan error, 1)
		go func() {
			_, err := log.Read(w.ctx, 0, unilog.Cursor{Offset: head.Offset}, 10, long)
			woken <- err
		}()
		await.True(t, "a read to be woken", func() bool {
			w.stage(1, 1)
			w.drain(s)
			select {
			case err := <-woken:
				w.must(err)
				return true
			default:
				return false
			}
		})
	}
	wakes()
	way.Blackhole(proxy.Both)
	made := connections.Load()
	await.True(t, "the connection to be given up", func() bool { return connections.Load() > made })
	way.Blackhole(0)
	wakes()
}

// TestReadersWithoutAListener refuses every connection to listen on.
func TestReadersWithoutAListener(t *testing.T) {
	t.Parallel()
	w := setup(t)
	config := w.reader().Config()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	testenv.ClosePool(t, pool)
	log := w.open(pool) // which takes the connection
	w.exec(`ALTER ROLE ` + config.ConnConfig.User + ` CONNECTION LIMIT 1`)
	s := w.streamer()
	for n := int64(1); n <= 3; n++ {
		read := w.waiting(log, n-1)
		w.stage(int(n), int(n))
		w.drain(s)
		w.want(read(), n, n)
	}
	if w.listeners() != 0 {
		t.Error("the test let it listen")
	}
}

// TestCloseEndsTheListener also reads on after it.
func TestCloseEndsTheListener(t *testing.T) {
	t.Parallel()
	w := setup(t)
	read := w.waiting(w.log, 0)
	await.Equal(t, "listeners", 1, w.listeners)
	w.log.Close()
	await.Equal(t, "listeners", 0, w.listeners)
	after := w.waiting(w.log, 0)
	w.stage(1, 1)
	w.drain(w.streamer())
	w.want(read(), 1, 1)
	w.want(after(), 1, 1)
	if w.listeners() != 0 {
		t.Error("a closed log listens")
	}
}

// BenchmarkWake commits a record at a time while everyone is at rest, and measures
// from the end of the commit until it is read.
func BenchmarkWake(b *testing.B) {
	w := setup(b)
	stop := w.run(w.streamer().Run)
	defer stop()
	var took []time.Duration
	after := int64(0)
	for b.Loop() {
		read := w.waiting(w.log, after)
		w.stage(1, 1)
		committed := time.Now()
		after = read()[0].Offset
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
}
