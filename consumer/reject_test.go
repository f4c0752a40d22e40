package consumer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
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
		FROM dead_letters WHERE consumer = 'sum'`)
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
	w.WantCount("parked", world.Query[int](w, `SELECT count(*) FROM dead_letters WHERE "offset" = 3`), 1)
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
	w.Exec(`UPDATE checkpoints SET "offset" = 0`) // by an operator
	w.CheckAudit()
	c.Reread()
	w.WantCount("parked again", w.Consume(c), 2)
}

func TestConsumerWhoseHandlerHidesAFailure(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
			_, err := tx.Exec(ctx, `SELECT 1/0`)
			if e := new(pgconn.PgError); !errors.As(err, &e) {
				t.Errorf("division by zero gave %v", err)
			}
			return nil
		}
	})
	var rejected *unilog.RejectedError
	if err := w.EndOf(w.Ctx, c.Run); !errors.As(err, &rejected) {
		t.Errorf("Run returned %v, want a rejection", err)
	}
}
