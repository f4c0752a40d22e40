package endtoend_test

import (
	"errors"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
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
			w := world.SetupOnRedis(t)
			w.Exec(`CREATE TABLE counters AS SELECT id, 0 AS n FROM generate_series(1, 2) AS id`)
			var both sync.WaitGroup
			both.Add(2)
			var writers errgroup.Group
			failures := make(chan string, 100)
			for i, amount := range []string{"1", "10"} {
				ready := sync.OnceFunc(func() { both.Done(); both.Wait() })
				write := func(tx pgx.Tx) error {
					for _, sql := range []string{`SET LOCAL deadlock_timeout = '10ms'`, `INSERT INTO amounts (amount) VALUES (` + amount + `)`} {
						if _, err := tx.Exec(w.Ctx, sql); err != nil {
							return err
						}
					}
					if _, err := tx.Exec(w.Ctx, c.before, i+1); err != nil {
						return err
					}
					if err := unilog.Stage(w.Ctx, tx, world.Record(amount)); err != nil {
						return err
					}
					ready()
					_, err := tx.Exec(w.Ctx, c.after, i+1)
					return err
				}
				writers.Go(func() error {
					for {
						err := pgx.BeginTxFunc(w.Ctx, w.DB, pgx.TxOptions{IsoLevel: c.isolation}, write)
						var refused *pgconn.PgError
						if !errors.As(err, &refused) {
							return err
						}
						failures <- refused.Code
					}
				})
			}
			w.Ended("the writers", &writers)
			close(failures)
			w.WantCount("transactions refused", min(len(failures), 1), 1)
			for code := range failures {
				if code != c.code {
					t.Errorf("a writer failed with %s, want %s", code, c.code)
				}
			}
			w.WantCount("published", w.Drain(w.Streamer()), 2)
			w.WantCount("applied", w.Consume(w.Consumer("sum")), 2)
			w.WantTotal("sum", "11")
			w.WantCount("amounts", world.Query[int](w, `SELECT count(*) FROM amounts`), 2)
		})
	}
}
