package unilog_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
)

func TestConsumerHaltsAtARejectedRecord(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func(){"an error": func() {}, "a panic": func() { panic("poison") }} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.commit("1", "2", "3", "4", "5", "6", "7")
			w.drain(w.streamer())
			c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.Handler = rejecting(cfg.Handler, how, "5") })
			var rejected *unilog.RejectedError
			// What comes before it is applied; then Run returns, and does so again.
			for range 2 {
				if err := w.endOf(w.ctx, c.Run); !errors.As(err, &rejected) || rejected.Offset != 5 || strings.Contains(err.Error(), "\n") {
					t.Fatalf("Run returned %v, want a rejection at offset 5, in one line", err)
				}
				w.wantTotal("sum", "10")
			}
			// Mended, it goes on.
			w.consume(w.consumer("sum"))
			w.wantTotal("sum", "28")
		})
	}
}

func TestConsumerParksRejectedRecords(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2", "3", "4", "5", "6", "7")
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Handler = rejecting(cfg.Handler, func() {}, "1", "4", "7")
		cfg.ParkRejected = true
	})
	w.wantCount("applied or parked", w.consume(c), 7)
	w.wantTotal("sum", "16")
	parked := query[string](w, `
		SELECT string_agg(concat_ws(' ', "offset", data ->> 'amount', error), ', ' ORDER BY "offset")
		FROM dead_letters WHERE consumer = 'sum'`)
	if parked != "1 1 poison, 4 4 poison, 7 7 poison" {
		t.Errorf("parked are %s", parked)
	}
	// The audit, at the test's end, counts what is parked.
}

func TestConsumerRejectsAtTheCommit(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`CREATE TABLE once (data jsonb UNIQUE DEFERRABLE INITIALLY DEFERRED)`)
	w.commit("1", "2", "2", "3")
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
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
	w.consume(c)
	w.wantTotal("sum", "6")
	w.wantCount("parked", query[int](w, `SELECT count(*) FROM dead_letters WHERE "offset" = 3`), 1)
}

func TestConsumerHalvesWhatTakesTooLong(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(8)
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if len(entries) > 3 { // as statement_timeout would say it
				_, err := tx.Exec(ctx, `DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '57014'; END $$`)
				return err
			}
			return add(ctx, tx, entries)
		}
	})
	w.wantCount("applied", w.consume(c), 8)
	w.wantTotal("sum", "8")
}

func TestConsumerRejectsWhatItsHandlerGivesUp(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2", "3")
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
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
	if err := w.endOf(w.ctx, c.Run); !errors.As(err, &rejected) || rejected.Offset != 2 {
		t.Errorf("Run returned %v, want a rejection at offset 2", err)
	}
	w.wantTotal("sum", "1")
}

func TestConsumerAsksTwiceBeforeItParks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1")
	w.drain(w.streamer())
	failed := false
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
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
	w.consume(c)
	w.wantTotal("sum", "1")
}

func TestConsumerParksAgain(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2")
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Handler = rejecting(countEntries(new(int)), func() {}, "1", "2")
		cfg.ParkRejected = true
	})
	w.wantCount("parked", w.consume(c), 2)
	w.exec(`UPDATE checkpoints SET "offset" = 0`) // by an operator
	w.checkAudit()
	c.Reread()
	w.wantCount("parked again", w.consume(c), 2)
}

func TestConsumerWhoseHandlerHidesAFailure(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1")
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
			_, err := tx.Exec(ctx, `SELECT 1/0`)
			if e := new(pgconn.PgError); !errors.As(err, &e) {
				t.Errorf("division by zero gave %v", err)
			}
			return nil
		}
	})
	var rejected *unilog.RejectedError
	if err := w.endOf(w.ctx, c.Run); !errors.As(err, &rejected) {
		t.Errorf("Run returned %v, want a rejection", err)
	}
}
