package unilog_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

// TestWritersThatCollide lets Postgres refuse one of two transactions, when both
// have written and staged. Its writer tries again, as writers do.
func TestWritersThatCollide(t *testing.T) {
	t.Parallel()
	// What writer $1 of 1 and 2 does before it stages, and when both have.
	for name, c := range map[string]struct {
		isolation     pgx.TxIsoLevel
		before, after string
		code          string
	}{
		"deadlock": {
			pgx.ReadCommitted,
			`UPDATE counters SET n = n + 1 WHERE id = $1`,
			`UPDATE counters SET n = n + 1 WHERE id = 3 - $1`,
			"40P01",
		},
		"repeatable read": {
			pgx.RepeatableRead,
			`SELECT n FROM counters WHERE id <> $1`,
			`UPDATE counters SET n = n + $1`,
			"40001",
		},
		"serializable": {
			pgx.Serializable,
			`SELECT n FROM counters WHERE id <> $1`,
			`UPDATE counters SET n = n + 1 WHERE id = $1`,
			"40001",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.exec(`CREATE TABLE counters AS SELECT id, 0 AS n FROM generate_series(1, 2) AS id`)
			var both sync.WaitGroup
			both.Add(2)
			var writers errgroup.Group
			failures := make(chan string, 100)
			for i, amount := range []string{"1", "10"} {
				ready := sync.OnceFunc(func() { both.Done(); both.Wait() })
				write := func(tx pgx.Tx) error {
					for _, sql := range []string{`SET LOCAL deadlock_timeout = '10ms'`, `INSERT INTO amounts (amount) VALUES (` + amount + `)`} {
						if _, err := tx.Exec(w.ctx, sql); err != nil {
							return err
						}
					}
					if _, err := tx.Exec(w.ctx, c.before, i+1); err != nil {
						return err
					}
					if err := unilog.Stage(w.ctx, tx, record(amount)); err != nil {
						return err
					}
					ready()
					_, err := tx.Exec(w.ctx, c.after, i+1)
					return err
				}
				writers.Go(func() error {
					for {
						err := pgx.BeginTxFunc(w.ctx, w.db, pgx.TxOptions{IsoLevel: c.isolation}, write)
						var refused *pgconn.PgError
						if !errors.As(err, &refused) {
							return err
						}
						failures <- refused.Code
					}
				})
			}
			w.ended("the writers", &writers)
			close(failures)
			w.wantCount("transactions refused", min(len(failures), 1), 1)
			for code := range failures {
				if code != c.code {
					t.Errorf("a writer failed with %s, want %s", code, c.code)
				}
			}
			w.wantCount("published", w.drain(w.streamer()), 2)
			w.wantCount("applied", w.consume(w.consumer("sum")), 2)
			w.wantTotal("sum", "11")
			w.wantCount("amounts", query[int](w, `SELECT count(*) FROM amounts`), 2)
		})
	}
}
