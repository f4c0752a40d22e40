package audit_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestReconcileRepairsAState(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	c := w.Consumer("sum")
	w.Commit("1", "2.5")
	w.Drain(w.Streamer())
	w.Consume(c)
	w.Commit("4")
	w.Exec(`UPDATE sums SET total = 1000`)
	was, err := world.Audit.Reconcile(w.Ctx, w.DB, "sum")
	w.Must(err)
	if was.Agrees || was.Total != "1000" || was.Difference != "-996.5" {
		t.Errorf("it was %+v", was)
	}
	w.WantTotal("sum", "3.5")
	if was, err := world.Audit.Reconcile(w.Ctx, w.DB, "sum"); err != nil || !was.Agrees {
		t.Errorf("a second time it was %+v, %v", was, err)
	}
	if _, err := world.Audit.Reconcile(w.Ctx, w.DB, "nobody"); !errors.Is(err, audit.ErrUnknownConsumer) {
		t.Errorf("of an unknown consumer it says %v", err)
	}
}

func TestBootstrapSkipsTheHistory(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.Commit("1", "2.5")
	w.Drain(s)
	w.LoseArchive(0, 2) // all of it was deleted long ago
	w.Commit("4")
	for _, want := range []bool{true, false} { // again, it changes nothing
		if created, err := world.Audit.Bootstrap(w.Ctx, w.DB, "late"); err != nil || created != want {
			t.Fatalf("bootstrap: %v, %v; want %v", created, err, want)
		}
		w.WantTotal("late", "3.5")
	}
	w.Drain(s)
	w.WantCount("applied by the new consumer", w.Consume(w.Consumer("late")), 1)
	w.WantTotal("late", "7.5")
}

// TestReconcileAndBootstrapUnderLoad damages states, repairs them and starts
// consumers while writers, a streamer and consumers run.
func TestReconcileAndBootstrapUnderLoad(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var processes, writers errgroup.Group
	run := func(name string) {
		c := w.Consumer(name, func(cfg *consumer.Config) { cfg.BatchRecords = 3 })
		processes.Go(func() error { return c.Run(ctx) })
	}
	s := w.Streamer()
	processes.Go(func() error { return s.Run(ctx) })
	run("first")
	w.AwaitThat("the first consumer to register", func() bool {
		return world.Query[bool](w, `SELECT EXISTS (SELECT FROM unilog.checkpoints)`)
	})
	for range 3 {
		writers.Go(func() error {
			for range 40 {
				w.Commit("1", "2")
			}
			return nil
		})
	}
	for i := range 10 {
		w.Exec(`INSERT INTO sums AS s VALUES ('first', 5) ON CONFLICT (name) DO UPDATE SET total = s.total + 5`)
		was, err := world.Audit.Reconcile(w.Ctx, w.DB, "first")
		w.Must(err)
		if was.Difference != "-5" {
			t.Errorf("the damage was %s, want -5", was.Difference)
		}
		name := string(rune('a' + i))
		_, err = world.Audit.Bootstrap(w.Ctx, w.DB, name)
		w.Must(err)
		run(name)
		w.CheckAudit()
	}
	w.Must(writers.Wait())
	w.AwaitThat("eleven consumers to have applied all", func() bool {
		return world.Query[bool](w, `SELECT count(*) = 11 AND bool_and(total = 360) FROM sums`)
	})
	stop()
	w.Must(processes.Wait())
}

// TestTimeoutsOfTheRole looks, repairs and starts consumers in a database that bounds
// statements, as hosted ones do. Its truth cannot be had within that bound.
func TestTimeoutsOfTheRole(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1", "2")
	w.StreamAll()
	w.Consume(w.Consumer("sum"))
	w.Exec(`UPDATE sums SET total = 5`)
	config := w.DB.Config()
	for _, setting := range []string{"statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"} {
		config.ConnConfig.RuntimeParams[setting] = "20min"
	}
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	testenv.ClosePool(t, db)
	slow := world.Audit
	slow.Truth = `SELECT sum(amount) / ('20min' NOT IN (
		current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')
	))::integer FROM amounts`
	ctx, cancel := context.WithTimeout(w.Ctx, await.Patience)
	defer cancel()
	for _, ctx := range []context.Context{w.Ctx, ctx} {
		if balances, err := slow.Check(ctx, db); err != nil || len(balances) == 0 || balances[0].Difference != "-2" {
			t.Errorf("check: %+v, %v", balances, err)
		}
	}
	if was, err := slow.Reconcile(ctx, db, "sum"); err != nil || was.Difference != "-2" {
		t.Errorf("reconcile: %+v, %v", was, err)
	}
	if created, err := slow.Bootstrap(w.Ctx, db, "late"); err != nil || !created {
		t.Errorf("bootstrap: %t, %v", created, err)
	}
	w.WantTotal("late", "3")
}
