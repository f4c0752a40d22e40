package consumer_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestConsumerTriesAgainAfterTransientErrors(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01", "57P01", "53300", "25006", "55P03"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Commit("1", "2")
			w.Drain(w.Streamer())
			ctx, stop := context.WithCancel(w.Ctx)
			failures := 3
			c := w.Consumer("sum", func(cfg *consumer.Config) {
				add := cfg.Handler
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					if failures > 0 {
						failures--
						// The server itself raises the error.
						_, err := tx.Exec(ctx, fmt.Sprintf(`DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '%s'; END $$`, code))
						return fmt.Errorf("as a handler would wrap it: %w", err)
					}
					return add(ctx, tx, entries)
				}
				cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) { stop() }
			})
			w.Must(w.EndOf(ctx, c.Run))
			w.WantCount("failures left", failures, 0)
			w.WantTotal("sum", "3")
		})
	}
}

func TestConsumerSurvivesTheLossOfItsConnection(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	cut := false
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if !cut {
				cut = true
				w.Exec(`SELECT pg_terminate_backend($1)`, tx.Conn().PgConn().PID())
			}
			return add(ctx, tx, entries)
		}
		cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) { stop() }
	})
	w.Must(w.EndOf(ctx, c.Run))
	w.WantTotal("sum", "3")
}

// TestHungHandlerHoldsNothingUp lets an instance hang in its transaction until
// another one, which has to wait for that to end, has applied everything.
func TestHungHandlerHoldsNothingUp(t *testing.T) {
	t.Parallel()
	exec := func(sql string) func(context.Context, pgx.Tx, chan struct{}) error {
		return func(ctx context.Context, tx pgx.Tx, _ chan struct{}) error {
			_, err := tx.Exec(ctx, sql)
			return err
		}
	}
	for name, hang := range map[string]func(ctx context.Context, tx pgx.Tx, enough chan struct{}) error{
		"waits for its context": func(ctx context.Context, _ pgx.Tx, _ chan struct{}) error { <-ctx.Done(); return ctx.Err() },
		"heeds nothing":         func(_ context.Context, _ pgx.Tx, enough chan struct{}) error { <-enough; return nil },
		"sleeps in Postgres":    exec(`SELECT pg_sleep(3600)`),
		"waits for a lock":      exec(`SELECT pg_advisory_xact_lock(1)`),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.CommitMany(8)
			s := w.Streamer()
			w.Drain(s)
			holder := w.Begin()
			_, err := holder.Exec(w.Ctx, `SELECT pg_advisory_xact_lock(1)`)
			w.Must(err)
			hanging, enough := make(chan struct{}), make(chan struct{})
			release := sync.OnceFunc(func() { close(enough) })
			defer release()
			hung := w.Consumer("sum", func(cfg *consumer.Config) {
				cfg.HandlerTimeout = 200 * time.Millisecond
				add := cfg.Handler
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					if world.Happened(enough) {
						return add(ctx, tx, entries)
					}
					if !world.Happened(hanging) {
						close(hanging)
					}
					return hang(ctx, tx, enough)
				}
			})
			ctx, stop := context.WithCancel(w.Ctx)
			defer stop()
			var running errgroup.Group
			running.Go(func() error { return hung.Run(ctx) })
			await.Receive(t, "the handler to hang", hanging)
			w.WantCount("applied by another consumer", w.Consume(w.Consumer("other")), 8)
			w.WantCount("applied by another instance", w.Consume(w.Consumer("sum")), 8)
			w.Must(holder.Rollback(w.Ctx))
			release()
			w.Commit("1")
			w.Drain(s)
			await.Equal(t, "the total", "9", func() string { return w.Total("sum") })
			stop()
			w.Must(running.Wait())
			w.Consume(w.Consumer("other"))
		})
	}
}

// TestHungHandlerIsGivenLess sees that what a handler cannot do in time is tried
// again in smaller batches, and that hanging alone rejects no record.
func TestHungHandlerIsGivenLess(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(8)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var sizes []int
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		*cfg = consumer.WithSilence(*cfg, await.Patience) // it is the handler's time that is over
		cfg.HandlerTimeout = 50 * time.Millisecond
		add := cfg.Handler
		cfg.ParkRejected = true
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			// A single one hangs, too, more often than a rejected record is asked about.
			if sizes = append(sizes, len(entries)); len(entries) > 1 || len(sizes) < 8 {
				_, err := tx.Exec(ctx, `SELECT pg_sleep(3600)`)
				return err
			}
			return add(context.WithoutCancel(ctx), tx, entries)
		}
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
			if entries[0].Offset == 8 {
				stop()
			}
		}
	})
	if _, err := c.RunOnce(ctx); err == nil || !strings.Contains(err.Error(), "50ms for 8 records from offset 1") {
		t.Errorf("RunOnce says %v, want to know what took long", err)
	}
	w.Must(w.EndOf(ctx, c.Run))
	if got := fmt.Sprint(sizes[:8]); got != "[8 4 2 1 1 1 1 1]" {
		t.Errorf("the first batches have %s records, want fewer each time", got)
	}
	w.WantTotal("sum", "8")
	w.WantCount("parked", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters`), 0)
}

// TestFrozenConsumerRejectsNothing lets a process freeze when its handler is
// done, until the server has ended its transaction, as often as it takes to
// reject a record.
func TestFrozenConsumerRejectsNothing(t *testing.T) {
	t.Parallel()
	w := world.SetupNetwork(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var conn *pgx.Conn
	frozen := 0
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.HandlerTimeout = 200 * time.Millisecond
		cfg.DB = w.FarDB // by TCP, which still takes a commit when the server has gone
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			conn = tx.Conn()
			return add(ctx, tx, entries)
		}
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
			if frozen++; frozen <= 3 {
				w.AwaitThat("the server to end the session", func() bool {
					return !world.Query[bool](w.World, `SELECT EXISTS (SELECT FROM pg_stat_activity WHERE pid = $1)`, conn.PgConn().PID())
				})
			}
			return nil
		}
		cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) { stop() }
	})
	w.Must(w.EndOf(ctx, c.Run))
	if frozen < 4 {
		t.Errorf("it was asked %d times, want 4 or more", frozen)
	}
	w.WantTotal("sum", "1")
}

// TestPostgresRestartsWithinATransaction stops or kills the server in the
// middle of a consumer's transaction.
func TestPostgresRestartsWithinATransaction(t *testing.T) {
	t.Parallel()
	w, server := world.SetupOwn(t)
	restart := map[string]func(){
		"stopped": func() { w.Must(server.Stop(w.Ctx)) },
		"killed":  func() { w.Must(server.Kill()) },
	}
	n := 0
	for how, end := range restart {
		for _, where := range []string{"before the handler writes", "after it has written", "before the commit"} {
			w.Commit("1", "1")
			w.StreamAll()
			n += 2
			restarted := false
			fail := func(at string) {
				if at == where && !restarted {
					restarted = true
					end()
					server = testenv.Restart(t, server)
				}
			}
			ctx, stop := context.WithCancel(w.Ctx)
			c := w.Consumer("sum", func(cfg *consumer.Config) {
				add := cfg.Handler
				cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
					fail("before the handler writes")
					err := add(ctx, tx, entries)
					fail("after it has written")
					return err
				}
				cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
					fail("before the commit")
					return nil
				}
				cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
					if entries[len(entries)-1].Offset == int64(n) {
						stop()
					}
				}
			})
			if err := w.EndOf(ctx, c.Run); err != nil {
				t.Fatalf("%s %s: %v", how, where, err)
			}
			stop()
			w.DB.Reset()
			w.WantTotal("sum", fmt.Sprint(n))
			w.WantCount("applied", world.Query[int](w, `SELECT count(*) FROM applied`), n)
			w.CheckAudit()
		}
	}
}

// watched is a log of which each read is told before it begins.
type watched struct {
	unilog.Log
	read func(ctx context.Context, after int64) error
}

func (l watched) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if err := l.read(ctx, after.Offset); err != nil {
		return nil, err
	}
	return l.Log.Read(ctx, partition, after, limit, wait)
}

// readingAhead makes a consumer of batches of ten, whose handler goes on when
// what follows the first batch is being read, if only by reading ahead.
func readingAhead(w *world.World, stop func(), read func(ctx context.Context) error, change ...func(*consumer.Config)) *consumer.Consumer {
	w.Helper()
	ahead := make(chan struct{})
	begun := sync.OnceFunc(func() { close(ahead) })
	last := world.Query[int64](w, `SELECT max("offset") FROM unilog.records`)
	return w.Consumer("sum", append(change, func(cfg *consumer.Config) {
		cfg.BatchRecords, cfg.HandlerTimeout = 10, await.Patience
		cfg.Log = watched{w.Log, func(ctx context.Context, after int64) error {
			if after == 10 && !world.Happened(ahead) {
				begun()
				return read(ctx)
			}
			return nil
		}}
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			select {
			case <-ahead:
				return add(ctx, tx, entries)
			case <-ctx.Done():
				w.Errorf("nothing was read ahead of offset %d", entries[0].Offset)
				stop()
				return ctx.Err()
			}
		}
		cfg.Hooks.AfterCommit = func(_ context.Context, entries []unilog.Entry) {
			if entries[len(entries)-1].Offset == last {
				stop()
			}
		}
	})...)
}

func TestConsumerReadsAhead(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(35)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	w.Must(w.EndOf(ctx, readingAhead(w, stop, func(context.Context) error { return nil }).Run))
	w.WantTotal("sum", "35")
}

// TestReadAheadOfAFailure lets the batch fail of which the next one is read
// already: without the archive, what was read must not be taken for what follows.
func TestReadAheadOfAFailure(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(35)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	failures := 3
	c := readingAhead(w, stop, func(context.Context) error { return nil }, func(cfg *consumer.Config) {
		cfg.Archive = nil
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
			if failures > 0 {
				failures--
				return unilog.ErrSimulated
			}
			return nil
		}
	})
	w.Must(w.EndOf(ctx, c.Run))
	w.WantCount("failures left", failures, 0)
	w.WantTotal("sum", "35")
}

// TestReadAheadEndsWithTheConsumer stops a consumer whose log has fallen silent
// while it reads ahead.
func TestReadAheadEndsWithTheConsumer(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(35)
	w.Drain(w.Streamer())
	ctx, stop := context.WithCancel(w.Ctx)
	ended := false
	c := readingAhead(w, stop, func(ctx context.Context) error {
		stop()
		<-ctx.Done()
		w.AwaitThat("the batch in hand to be applied", func() bool { return checkpoint(w, "sum") == 10 }) // nothing else is left to do
		ended = true
		return ctx.Err()
	})
	w.Must(w.EndOf(ctx, c.Run))
	if !ended {
		t.Error("it goes on reading")
	}
	w.WantTotal("sum", "10")
}
