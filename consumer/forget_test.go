package consumer_test

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

func TestForgottenConsumerLeavesNothing(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	for _, name := range []string{"gone", "stays"} {
		w.Consume(w.Consumer(name, func(cfg *consumer.Config) {
			cfg.Handler = world.Rejecting(cfg.Handler, func() {}, "2")
			cfg.ParkRejected = true
		}))
		w.Exec(`INSERT INTO unilog.members (name, member, seen_at) VALUES ($1, 'm', now() - interval '1 hour')`, name)
		w.Exec(`INSERT INTO unilog.leases (name, partition, member) VALUES ($1, 0, 'm') ON CONFLICT DO NOTHING`, name)
	}
	kept := func(name string) (tables int) {
		t.Helper()
		w.Must(w.DB.QueryRow(w.Ctx, `
			SELECT (SELECT count(*) FROM unilog.checkpoints WHERE name = $1) + (SELECT count(*) FROM unilog.dead_letters WHERE consumer = $1)
				+ (SELECT count(DISTINCT name) FROM unilog.members WHERE name = $1) + (SELECT count(*) FROM unilog.leases WHERE name = $1)`, name).Scan(&tables))
		return tables
	}
	if n := kept("gone"); n != 4 {
		t.Fatalf("there are rows in %d tables, not 4", n)
	}
	err := pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		w.Must(consumer.Forget(w.Ctx, tx, "gone"))
		return errors.New("the caller's transaction fails")
	})
	if err == nil || kept("gone") != 4 {
		t.Errorf("it is forgotten though the caller's transaction fails: %v", err)
	}
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		w.Must(consumer.Forget(w.Ctx, tx, "gone"))
		_, err := tx.Exec(w.Ctx, `DELETE FROM sums WHERE name = 'gone'`)
		return err
	}))
	if n := kept("gone"); n != 0 {
		t.Errorf("it is forgotten, but %d tables have rows of it", n)
	}
	if n := kept("stays"); n != 4 {
		t.Errorf("another consumer has rows in %d tables, not 4", n)
	}
	if err := consumer.Forget(w.Ctx, w.DB, "gone"); !errors.Is(err, consumer.ErrUnknown) {
		t.Errorf("of an unknown consumer it says %v", err)
	}
}

// TestRunningConsumerIsNotForgotten: it would apply everything a second time.
func TestRunningConsumerIsNotForgotten(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Commit("1", "2")
	w.Drain(w.Streamer())
	stop := w.Consumes(w.Consumer("sum"))
	w.AwaitTotal("sum", "3")
	if err := consumer.Forget(w.Ctx, w.DB, "sum"); !errors.Is(err, consumer.ErrRunning) {
		t.Errorf("of a running consumer it says %v", err)
	}
	stop()
	awaitForgotten(w, func() error { return consumer.Forget(w.Ctx, w.DB, "sum") })
	w.Exec(`DELETE FROM sums`)
}

// awaitForgotten waits for the success of a call: a consumer that ends on a busy machine
// may lack the time to take itself out of the list.
func awaitForgotten(w *world.World, forget func() error) {
	w.Helper()
	w.Await("the consumer to be forgotten", func() string {
		if err := forget(); err != nil {
			return err.Error()
		}
		return ""
	})
}
