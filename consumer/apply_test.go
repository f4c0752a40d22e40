package consumer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestConsumerHaltsAtARejectedRecord(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(){"an error": func() {}, "a panic": func() { panic("poison") }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Commit("1", "2", "3", "4", "5", "6", "7")
			w.Drain(w.Streamer())
			c := w.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = world.Rejecting(cfg.Handler, how, "5") })
			var rejected *unilog.RejectedError
			// What comes before it is applied; then Run returns, and does so again.
			for range 2 {
				if err := w.EndOf(w.Ctx, c.Run); !errors.As(err, &rejected) || rejected.Offset != 5 || strings.Contains(err.Error(), "\n") {
					t.Fatalf("Run returned %v, want a rejection at offset 5, in one line", err)
				}
				w.WantTotal("sum", "10")
			}
			// Mended, it goes on.
			w.Consume(w.Consumer("sum"))
			w.WantTotal("sum", "28")
		})
	}
}

func TestConsumerParksRejectedRecords(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2", "3", "4", "5", "6", "7")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "1", "4", "7")
		cfg.ParkRejected = true
	})
	w.WantCount("applied or parked", w.Consume(c), 7)
	w.WantTotal("sum", "16")
	parked := world.Query[string](w, `
		SELECT string_agg(concat_ws(' ', "offset", data ->> 'amount', error), ', ' ORDER BY "offset")
		FROM unilog.dead_letters WHERE consumer = 'sum'`)
	if parked != "1 1 poison, 4 4 poison, 7 7 poison" {
		t.Errorf("parked are %s", parked)
	}
	// The audit, at the test's end, counts what is parked.
}

func TestConsumerRejectsAtTheCommit(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`CREATE TABLE once (data jsonb UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	w.Commit("1", "2", "2", "3")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.ParkRejected = true
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			for _, e := range entries {
				if _, err := tx.Exec(ctx, `INSERT INTO once VALUES ($1)`, e.Data); err != nil {
					return err
				}
			}
			return add(ctx, tx, entries)
		}
	})
	w.Consume(c)
	w.WantTotal("sum", "6")
	w.WantCount("parked", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters WHERE "offset" = 3`), 1)
}

func TestConsumerHalvesWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(8)
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if len(entries) > 3 { // as statement_timeout would say it
				_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57014'; END $$`)
				return err
			}
			return add(ctx, tx, entries)
		}
	})
	w.WantCount("applied", w.Consume(c), 8)
	w.WantTotal("sum", "8")
}

func TestConsumerRejectsWhatItsHandlerGivesUp(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "2", "3")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			for _, e := range entries {
				if e.Offset == 2 {
					ctx, cancel := context.WithTimeout(ctx, 0)
					defer cancel()
					_, err := tx.Exec(ctx, `SELECT pg_sleep(60)`)
					return err
				}
			}
			return add(ctx, tx, entries)
		}
	})
	var rejected *unilog.RejectedError
	if err := w.EndOf(w.Ctx, c.Run); !errors.As(err, &rejected) || rejected.Offset != 2 {
		t.Errorf("Run returned %v, want a rejection at offset 2", err)
	}
	w.WantTotal("sum", "1")
}

func TestConsumerAsksTwiceBeforeItParks(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	failed := false
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.ParkRejected = true
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if !failed {
				failed = true
				return errors.New("as a plan that a migration has outdated")
			}
			return add(ctx, tx, entries)
		}
	})
	w.Consume(c)
	w.WantTotal("sum", "1")
}

func TestConsumerParksAgain(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = world.Rejecting(world.CountEntries(new(int)), func() {}, "1", "2")
		cfg.ParkRejected = true
	})
	w.WantCount("parked", w.Consume(c), 2)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 0`) // by an operator
	w.CheckAudit()
	c.Reread()
	w.WantCount("parked again", w.Consume(c), 2)
}

func TestConsumerCrashBeforeCommitChangesNothing(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	crash := true
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
			if crash {
				return unilog.ErrSimulated
			}
			return nil
		}
	})
	if _, err := c.RunOnce(w.Ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("a simulated crash gave %v", err)
	}
	w.WantTotal("sum", "0")
	if at := checkpoint(w, "sum"); at != 0 {
		t.Errorf("the checkpoint is %d after a crash, want 0", at)
	}
	crash = false
	w.Consume(c)
	w.WantTotal("sum", "3")
}

func TestConsumerInstanceIsNotHeldUpByAnother(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		_, err := tx.Exec(w.Ctx, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('sum', 0)`)
		return err
	}))
	frozen := w.Begin() // in the middle of its transaction
	_, err := frozen.Exec(w.Ctx, `UPDATE unilog.checkpoints SET updated_at = now()`)
	w.Must(err)
	c := w.Consumer("sum", func(cfg *consumer.Config) { cfg.Log = thawing{cfg.Log, frozen} })
	w.WantCount("applied", w.Consume(c), 2)
}

// thawing lets a frozen transaction end when the log is read: by then the
// consumer has loaded its checkpoint.
type thawing struct {
	unilog.Log
	frozen pgx.Tx
}

func (l thawing) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if err := l.frozen.Rollback(ctx); err != nil && !errors.Is(err, pgx.ErrTxClosed) {
		return nil, err
	}
	return l.Log.Read(ctx, partition, after, limit, wait)
}

// TestCommitsWaitForTheDisk sees that they do so unless the archive is in the
// same database, or the handler wants it.
func TestCommitsWaitForTheDisk(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	elsewhere := *w
	elsewhere.DB = testenv.Database(t, "world", world.MigrateWorld)
	for name, test := range map[string]struct {
		change func(cfg *consumer.Config)
		before string
		want   string
	}{
		"the same database":         {func(*consumer.Config) {}, ``, "off"},
		"as the handler wants":      {func(*consumer.Config) {}, `SET LOCAL synchronous_commit = on`, "on"},
		"no archive":                {func(cfg *consumer.Config) { cfg.Archive = nil }, ``, "on"},
		"an archive somewhere else": {func(cfg *consumer.Config) { cfg.DB = elsewhere.DB }, ``, "on"},
	} {
		got := ""
		c := w.Consumer(name, test.change, func(cfg *consumer.Config) {
			cfg.Handler = func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
				if _, err := tx.Exec(ctx, test.before); err != nil {
					return err
				}
				return tx.QueryRow(ctx, `SHOW synchronous_commit`).Scan(&got)
			}
		})
		if w.Consume(c); got != test.want {
			t.Errorf("%s: synchronous_commit is %s, want %s", name, got, test.want)
		}
	}
	w.Exec(`TRUNCATE unilog.checkpoints`) // these add nothing up
}
