package consumer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

// sqlAdd is [world.World.Add] by database/sql.
func sqlAdd(ctx context.Context, tx *sql.Tx, name string, entries []unilog.Entry) error {
	for _, e := range entries {
		if _, err := tx.ExecContext(ctx, `INSERT INTO applied (name, "offset", data) VALUES ($1, $2, $3)`, name, e.Offset, e.Data); err != nil {
			return err
		}
		var total string
		err := tx.QueryRowContext(ctx, `
			INSERT INTO sums AS s VALUES ($1, ($2::jsonb ->> 'amount')::numeric)
			ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total
			RETURNING total`, name, string(e.Data)).Scan(&total)
		if err != nil {
			return err
		}
	}
	return nil
}

// sqlHandlers are what handlers do after they have added, and what comes of it: "" is
// that it is applied.
var sqlHandlers = map[string]struct {
	do   func(ctx context.Context, tx *sql.Tx) error
	says string
}{
	"no more": {func(context.Context, *sql.Tx) error { return nil }, ""},
	"a savepoint": {func(ctx context.Context, tx *sql.Tx) error {
		_, err1 := tx.Exec(`SAVEPOINT s`)
		_, err := tx.ExecContext(ctx, `INSERT INTO sums SELECT 'a savepoint', 1/0`)
		_, err2 := tx.ExecContext(ctx, `ROLLBACK TO SAVEPOINT s`)
		if err == nil {
			err1 = errors.New("it divides by zero")
		}
		return errors.Join(err1, err2)
	}, ""},
	"a prepared statement": {func(ctx context.Context, tx *sql.Tx) error {
		s, err := tx.PrepareContext(ctx, `SELECT $1::int`)
		for i := range 2 {
			var n int
			if err = errors.Join(err, s.QueryRow(i).Scan(&n)); err == nil && n != i {
				err = fmt.Errorf("it is %d", n)
			}
		}
		return err
	}, ""},
	"rows left open": {func(ctx context.Context, tx *sql.Tx) error {
		rows, err := tx.QueryContext(ctx, `SELECT generate_series(1, 1000)`)
		rows.Next()
		return err
	}, ""},
	"a commit":         {func(_ context.Context, tx *sql.Tx) error { _ = tx.Commit(); return nil }, spoilt},
	"a commit's error": {func(_ context.Context, tx *sql.Tx) error { return tx.Commit() }, spoilt},
	"a rollback":       {func(_ context.Context, tx *sql.Tx) error { defer func() { _ = tx.Rollback() }(); return nil }, spoilt},
	"a commit at work": {func(_ context.Context, tx *sql.Tx) error {
		_ = tx.Commit()
		_, err := tx.Exec(`SELECT 1`)
		return err
	}, spoilt},
	"ROLLBACK": {func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, `ROLLBACK`); return err }, spoilt},
	"a failure ignored": {func(ctx context.Context, tx *sql.Tx) error {
		_, _ = tx.ExecContext(ctx, `SELECT 1/0`)
		return nil
	}, spoilt},
	"an error":                {func(context.Context, *sql.Tx) error { return world.ErrPoison }, rejected},
	"a rollback and an error": {func(_ context.Context, tx *sql.Tx) error { _ = tx.Rollback(); return world.ErrPoison }, rejected},
	"a panic":                 {func(context.Context, *sql.Tx) error { panic("handler") }, rejected},
	"a bad statement":         {func(ctx context.Context, tx *sql.Tx) error { _, err := tx.ExecContext(ctx, `SELECT 1/0`); return err }, rejected},
	"no table": {func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.QueryContext(ctx, `SELECT * FROM nowhere`)
		return err
	}, `relation "nowhere" does not exist`},
}

const (
	spoilt   = "the handler must leave its transaction"
	rejected = "its handler rejected the record"
)

// TestSQL sees that a handler by database/sql is one like others: all or nothing with the
// checkpoint, whatever it does.
func TestSQL(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2", "3")
	w.Drain(w.Streamer())
	for name, c := range sqlHandlers {
		mended := false
		var outlived *sql.Tx
		c1 := w.Consumer(name, func(cfg *consumer.Config) {
			cfg.Handler = consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
				outlived = tx
				if err := sqlAdd(ctx, tx, name, entries); err != nil || mended {
					return err
				}
				return c.do(ctx, tx)
			})
		})
		want := 3
		n, err := c1.RunOnce(w.Ctx)
		if c.says != "" {
			want = 0
			if err == nil || !strings.Contains(err.Error(), c.says) || errors.Is(err, unilog.ErrTransactionSpoiled) != (c.says == spoilt) {
				t.Errorf("%s: it says %v, want %s", name, err, c.says)
			}
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		w.WantCount(name+": applied", n, want)
		if _, err := outlived.Exec(`SELECT 1`); !errors.Is(err, sql.ErrTxDone) && !errors.Is(err, context.Canceled) {
			t.Errorf("%s: after the call, the transaction says %v", name, err)
		}
		mended = true
		w.WantCount(name+": applied when it is mended", w.Consume(c1), 3-want)
		w.WantTotal(name, "6")
	}
}

// TestSQLIsBounded sees that a statement that is given no context ends with the handler's
// time, and that the record is not to blame.
func TestSQLIsBounded(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(1)
	slow := true
	c := w.Consumer("sum", func(cfg *consumer.Config) {
		cfg.HandlerTimeout = await.Patience
		cfg.Handler = consumer.SQL(func(ctx context.Context, tx *sql.Tx, entries []unilog.Entry) error {
			if slow {
				_, err := tx.Exec(`SELECT pg_sleep(3600)`)
				return err
			}
			return sqlAdd(ctx, tx, "sum", entries)
		})
	})
	ctx, cancel := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := c.RunOnce(ctx)
		ended <- err
	}()
	world.AwaitQuery(w, "the statement to run", "1", `
		SELECT count(*)::text FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(3600)' AND datname = current_database()`)
	cancel()
	if err := await.Receive(t, "the end", ended); !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	slow = false
	w.WantCount("applied", w.Consume(c), 1)
	w.WantTotal("sum", "1")
}

// TestSQLThatHangs sees that nothing takes effect of what a handler does when it is taken
// for dead.
func TestSQLThatHangs(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(1)
	enough, late := make(chan struct{}), make(chan error, 1)
	hung := w.Consumer("sum", func(cfg *consumer.Config) {
		*cfg = consumer.WithSilence(*cfg, time.Second)
		cfg.HandlerTimeout = time.Second
		cfg.Handler = consumer.SQL(func(_ context.Context, tx *sql.Tx, entries []unilog.Entry) error {
			<-enough
			late <- sqlAdd(context.WithoutCancel(w.Ctx), tx, "sum", entries)
			return nil
		})
	})
	if _, err := hung.RunOnce(w.Ctx); err == nil || !strings.Contains(err.Error(), "does not return") {
		t.Errorf("it says %v", err)
	}
	w.WantCount("applied by another", w.Consume(w.Consumer("sum")), 1)
	close(enough)
	if err := await.Receive(t, "the handler", late); err == nil {
		t.Error("it writes when its time is over")
	}
	w.WantTotal("sum", "1")
}

// BenchmarkHandlers compares what a batch of one record costs with a handler of one
// statement, by pgx and by database/sql.
func BenchmarkHandlers(b *testing.B) {
	w := world.Setup(b)
	w.Publish(1)
	e := unilog.Entry{Record: world.Record("1"), Offset: 1}
	const statement = `INSERT INTO amounts (amount) VALUES ($1)`
	for name, handler := range map[string]consumer.Handler{
		"pgx": func(ctx context.Context, tx pgx.Tx, _ []unilog.Entry) error {
			_, err := tx.Exec(ctx, statement, 1)
			return err
		},
		"sql": consumer.SQL(func(ctx context.Context, tx *sql.Tx, _ []unilog.Entry) error {
			_, err := tx.ExecContext(ctx, statement, 1)
			return err
		}),
		"sql, nothing done": consumer.SQL(func(context.Context, *sql.Tx, []unilog.Entry) error { return nil }),
	} {
		b.Run(name, func(b *testing.B) {
			tx := w.Begin()
			b.ReportAllocs()
			for b.Loop() {
				w.Must(handler(w.Ctx, tx, []unilog.Entry{e}))
			}
			w.Must(tx.Rollback(w.Ctx))
		})
	}
	w.Consume(w.Consumer("sum"))
}
