package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

func checkpoint(w *world, name string) int64 {
	w.Helper()
	return query[int64](w, `SELECT "offset" FROM checkpoints WHERE name = $1`, name)
}

func TestConsumerGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	w.wantCount("applied of an empty log", w.consume(w.consumer("sum")), 0)
	w.commit("1", "2")
	w.drain(s)
	w.wantCount("applied", w.consume(w.consumer("sum")), 2)
	w.commit("3")
	w.drain(s)
	w.wantCount("applied by another process", w.consume(w.consumer("sum")), 1)
	w.wantCount("applied with nothing new", w.consume(w.consumer("sum")), 0)
	w.wantTotal("sum", "6")
	if at := checkpoint(w, "sum"); at != 3 {
		t.Errorf("the checkpoint is %d, want 3", at)
	}
}

func TestConsumerCrashBeforeCommitChangesNothing(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2")
	w.drain(w.streamer())
	crash := true
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		cfg.Hooks.BeforeCommit = func(context.Context, []unilog.Entry) error {
			if crash {
				return unilog.ErrSimulated
			}
			return nil
		}
	})
	if _, err := c.RunOnce(w.ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatalf("a simulated crash gave %v", err)
	}
	w.wantTotal("sum", "0")
	if at := checkpoint(w, "sum"); at != 0 {
		t.Errorf("the checkpoint is %d after a crash, want 0", at)
	}
	crash = false
	w.consume(c)
	w.wantTotal("sum", "3")
}

func TestConsumerTriesAgainAfterTransientErrors(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01", "57P01", "53300", "25006", "55P03"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.commit("1", "2")
			w.drain(w.streamer())
			ctx, stop := context.WithCancel(w.ctx)
			failures := 3
			c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
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
			w.must(w.endOf(ctx, c.Run))
			w.wantCount("failures left", failures, 0)
			w.wantTotal("sum", "3")
		})
	}
}

func TestConsumerSurvivesTheLossOfItsConnection(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2")
	w.drain(w.streamer())
	ctx, stop := context.WithCancel(w.ctx)
	cut := false
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			if !cut {
				cut = true
				w.exec(`SELECT pg_terminate_backend($1)`, tx.Conn().PgConn().PID())
			}
			return add(ctx, tx, entries)
		}
		cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) { stop() }
	})
	w.must(w.endOf(ctx, c.Run))
	w.wantTotal("sum", "3")
}

func TestConsumerInstanceIsNotHeldUpByAnother(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commit("1", "2")
	w.drain(w.streamer())
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		_, err := tx.Exec(w.ctx, `INSERT INTO checkpoints (name, partition) VALUES ('sum', 0)`)
		return err
	}))
	frozen := w.begin() // in the middle of its transaction
	_, err := frozen.Exec(w.ctx, `UPDATE checkpoints SET updated_at = now()`)
	w.must(err)
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) { cfg.Log = thawing{cfg.Log, frozen} })
	w.wantCount("applied", w.consume(c), 2)
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

func TestConsumerShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	w := setup(t)
	c := w.consumer("sum")
	w.consume(c)
	c.BeSilentFor(-time.Hour) // however slow this is, it is not due
	w.exec(`UPDATE checkpoints SET updated_at = 'epoch'`)
	silent := func() bool { return query[bool](w, `SELECT updated_at = 'epoch' FROM checkpoints`) }
	if w.consume(c); !silent() {
		t.Error("it wrote although it was not due")
	}
	c.BeSilentFor(2 * time.Hour)
	holder := w.begin() // another instance at work
	_, err := holder.Exec(w.ctx, `SELECT FROM checkpoints FOR UPDATE`)
	w.must(err)
	if w.consume(c); !silent() {
		t.Error("it wrote although another instance holds the row")
	}
	w.must(holder.Rollback(w.ctx))
	c.BeSilentFor(time.Hour)
	if w.consume(c); silent() {
		t.Error("it is silent although it was due")
	}
}

func TestConsumerAheadOfItsSource(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(3)
	w.drain(w.streamer())
	c := w.consumer("sum")
	w.consume(c)
	w.exec(`UPDATE checkpoints SET "offset" = 10`)
	var ahead *unilog.CheckpointAheadError
	if err := w.endOf(w.ctx, w.consumer("sum").Run); !errors.As(err, &ahead) || ahead.Checkpoint != 10 || ahead.Database != 3 {
		t.Errorf("Run returned %v, want it to be at 10, ahead of 3", err)
	}
	w.exec(`UPDATE checkpoints SET "offset" = 3`)
}

func TestConsumerGapThatNobodyCanFill(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.commitMany(20)
	w.drain(w.streamer())
	w.command("XTRIM", w.stream, "MAXLEN", "5")
	w.exec(`DELETE FROM log_records WHERE "offset" <= 3`) // as if dropped long ago
	var gap *unilog.GapError
	err := w.endOf(w.ctx, w.consumer("late", func(cfg *unilog.ConsumerConfig) { cfg.Handler = countEntries(new(int)) }).Run)
	if !errors.As(err, &gap) || gap.From != 1 || gap.To != 3 || !gap.Archive {
		t.Errorf("Run returned %v, want a gap from 1 to 3", err)
	}
	w.exec(`DELETE FROM checkpoints`) // it never agrees, and is not meant to
}

// TestConsumerThatOverslept wakes an instance up when another one has applied
// what it was about to, and all of that is gone.
func TestConsumerThatOverslept(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s := w.streamer()
	frozen := w.consumer("sum")
	w.consume(frozen)
	w.commitMany(20)
	w.drain(s)
	w.consume(w.consumer("sum"))
	w.command("XTRIM", w.stream, "MAXLEN", "5")
	w.exec(`DELETE FROM log_records WHERE "offset" <= 15`) // as if dropped
	w.wantCount("applied by the one that overslept", w.repeat(frozen.RunQuiet), 0)
	w.commit("1")
	w.drain(s)
	w.wantCount("applied by it then", w.repeat(frozen.RunQuiet), 1)
	w.wantTotal("sum", "21")
}

func TestConsumerStopsWithItsContext(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, stop := context.WithCancel(w.ctx)
	w.commit("1", "2")
	w.drain(w.streamer())
	c := w.consumer("sum", func(cfg *unilog.ConsumerConfig) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			stop() // in the middle of a batch, which is finished all the same
			return add(ctx, tx, entries)
		}
	})
	w.must(w.endOf(ctx, c.Run))
	w.wantTotal("sum", "3")
}

func TestConsumerConfig(t *testing.T) {
	t.Parallel()
	w := setup(t)
	good := unilog.ConsumerConfig{Name: "sum", DB: w.db, Log: w.log, Handler: countEntries(new(int))}
	for field, break_ := range map[string]func(c *unilog.ConsumerConfig){
		"Name":         func(c *unilog.ConsumerConfig) { c.Name = "" },
		"Name must":    func(c *unilog.ConsumerConfig) { c.Name = "\xff" },
		"DB":           func(c *unilog.ConsumerConfig) { c.DB = nil },
		"Log":          func(c *unilog.ConsumerConfig) { c.Log = nil },
		"Handler":      func(c *unilog.ConsumerConfig) { c.Handler = nil },
		"BatchRecords": func(c *unilog.ConsumerConfig) { c.BatchRecords = -1 },
	} {
		cfg := good
		break_(&cfg)
		if _, err := unilog.NewConsumer(cfg); err == nil || !strings.Contains(err.Error(), "ConsumerConfig."+field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
}
