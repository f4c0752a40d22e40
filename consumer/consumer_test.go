package consumer_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

func checkpoint(w *world.World, name string) int64 {
	w.Helper()
	return world.Query[int64](w, `SELECT "offset" FROM checkpoints WHERE name = $1`, name)
}

func TestConsumerGoesOnFromItsCheckpoint(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.WantCount("applied of an empty log", w.Consume(w.Consumer("sum")), 0)
	w.Commit("1", "2")
	w.Drain(s)
	w.WantCount("applied", w.Consume(w.Consumer("sum")), 2)
	w.Commit("3")
	w.Drain(s)
	w.WantCount("applied by another process", w.Consume(w.Consumer("sum")), 1)
	w.WantCount("applied with nothing new", w.Consume(w.Consumer("sum")), 0)
	w.WantTotal("sum", "6")
	if at := checkpoint(w, "sum"); at != 3 {
		t.Errorf("the checkpoint is %d, want 3", at)
	}
}

func TestConsumerCrashBeforeCommitChangesNothing(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
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

func TestConsumerTriesAgainAfterTransientErrors(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"40001", "40P01", "57P01", "53300", "25006", "55P03"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			w := world.Setup(t)
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
	w := world.Setup(t)
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

func TestConsumerInstanceIsNotHeldUpByAnother(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		_, err := tx.Exec(w.Ctx, `INSERT INTO checkpoints (name, partition) VALUES ('sum', 0)`)
		return err
	}))
	frozen := w.Begin() // in the middle of its transaction
	_, err := frozen.Exec(w.Ctx, `UPDATE checkpoints SET updated_at = now()`)
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

func TestConsumerShowsThatItIsAlive(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	c := w.Consumer("sum")
	w.Consume(c)
	c.BeSilentFor(-time.Hour) // however slow this is, it is not due
	w.Exec(`UPDATE checkpoints SET updated_at = 'epoch'`)
	silent := func() bool { return world.Query[bool](w, `SELECT updated_at = 'epoch' FROM checkpoints`) }
	if w.Consume(c); !silent() {
		t.Error("it wrote although it was not due")
	}
	c.BeSilentFor(2 * time.Hour)
	holder := w.Begin() // another instance at work
	_, err := holder.Exec(w.Ctx, `SELECT FROM checkpoints FOR UPDATE`)
	w.Must(err)
	if w.Consume(c); !silent() {
		t.Error("it wrote although another instance holds the row")
	}
	w.Must(holder.Rollback(w.Ctx))
	c.BeSilentFor(time.Hour)
	if w.Consume(c); silent() {
		t.Error("it is silent although it was due")
	}
}

func TestConsumerAheadOfItsSource(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(3)
	w.Drain(w.Streamer())
	c := w.Consumer("sum")
	w.Consume(c)
	w.Exec(`UPDATE checkpoints SET "offset" = 10`)
	var ahead *unilog.CheckpointAheadError
	if err := w.EndOf(w.Ctx, w.Consumer("sum").Run); !errors.As(err, &ahead) || ahead.Checkpoint != 10 || ahead.Database != 3 {
		t.Errorf("Run returned %v, want it to be at 10, ahead of 3", err)
	}
	w.Exec(`UPDATE checkpoints SET "offset" = 3`)
}

func TestConsumerGapThatNobodyCanFill(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(20)
	w.Drain(w.Streamer())
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")
	w.Exec(`DELETE FROM log_records WHERE "offset" <= 3`) // as if dropped long ago
	var gap *unilog.GapError
	err := w.EndOf(w.Ctx, w.Consumer("late", func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(new(int)) }).Run)
	if !errors.As(err, &gap) || gap.From != 1 || gap.To != 3 || !gap.Archive {
		t.Errorf("Run returned %v, want a gap from 1 to 3", err)
	}
	w.Exec(`DELETE FROM checkpoints`) // it never agrees, and is not meant to
}

// TestConsumerThatOverslept wakes an instance up when another one has applied
// what it was about to, and all of that is gone.
func TestConsumerThatOverslept(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	frozen := w.Consumer("sum")
	w.Consume(frozen)
	w.CommitMany(20)
	w.Drain(s)
	w.Consume(w.Consumer("sum"))
	w.Command("XTRIM", w.Stream, "MAXLEN", "5")
	w.Exec(`DELETE FROM log_records WHERE "offset" <= 15`) // as if dropped
	w.WantCount("applied by the one that overslept", w.Repeat(frozen.RunQuiet), 0)
	w.Commit("1")
	w.Drain(s)
	w.WantCount("applied by it then", w.Repeat(frozen.RunQuiet), 1)
	w.WantTotal("sum", "21")
}

func TestConsumerStopsWithItsContext(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	ctx, stop := context.WithCancel(w.Ctx)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		add := cfg.Handler
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			stop() // in the middle of a batch, which is finished all the same
			return add(ctx, tx, entries)
		}
	})
	w.Must(w.EndOf(ctx, c.Run))
	w.WantTotal("sum", "3")
}

func TestConsumerConfig(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	good := consumer.Config{Name: "sum", DB: w.DB, Log: w.Log, Handler: world.CountEntries(new(int))}
	for field, break_ := range map[string]func(c *consumer.Config){
		"Name":         func(c *consumer.Config) { c.Name = "" },
		"Name must":    func(c *consumer.Config) { c.Name = "\xff" },
		"DB":           func(c *consumer.Config) { c.DB = nil },
		"Log":          func(c *consumer.Config) { c.Log = nil },
		"Handler":      func(c *consumer.Config) { c.Handler = nil },
		"BatchRecords": func(c *consumer.Config) { c.BatchRecords = -1 },
	} {
		cfg := good
		break_(&cfg)
		if _, err := consumer.New(cfg); err == nil || !strings.Contains(err.Error(), "consumer: Config."+field) {
			t.Errorf("without a good %s: %v", field, err)
		}
	}
}
