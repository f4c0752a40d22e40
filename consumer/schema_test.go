package consumer_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// TestReadersOfAnotherSchema run beside a log in the default one, of which nothing may
// change. The memory log loses records, so that the archive is read.
func TestReadersOfAnotherSchema(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const schema unilog.Schema = "second"
	w.Must(migration.In(schema).Up(w.Ctx, w.DB, migration.Log, migration.Consumer))
	w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error {
		return schema.Stage(w.Ctx, tx, world.Record("1"), world.Record("2"), world.Record("4"))
	}))
	log := logtest.NewMemory()
	s := w.Streamer(func(cfg *streamer.Config) { cfg.Schema, cfg.Log = schema, log })
	w.WantCount("published", w.Drain(s), 3)
	log.Remove(0, 1)

	poison := errors.New("poison")
	sums := func(cfg *consumer.Config) {
		cfg.Schema, cfg.Log, cfg.ParkRejected = schema, log, true
		cfg.Handler = func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
			if entries[len(entries)-1].Offset >= 3 {
				return poison
			}
			return nil
		}
	}
	stop := w.Consumes(w.Consumer("second", sums))
	world.AwaitQuery(w, "the checkpoint", "3", `SELECT coalesce(string_agg("offset"::text, ' '), '') FROM second.checkpoints`)
	w.WantCount("members", world.Query[int](w, `SELECT count(*) FROM second.members`), 1)
	w.WantCount("leases", world.Query[int](w, `SELECT count(*) FROM second.leases`), 1)
	stop()
	in := consumer.In(schema)
	letters, err := in.DeadLetters(w.Ctx, w.DB, "second")
	w.Must(err)
	w.WantCount("dead letters", len(letters), 1)
	retry := func(offset int64) error {
		return in.RetryDeadLetter(w.Ctx, w.DB, "second", 0, offset, world.CountEntries(new(int)))
	}
	w.Must(retry(3))
	if err := retry(3); !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("a second time it says %v", err)
	}
	if err := in.DiscardDeadLetter(w.Ctx, w.DB, "second", 0, 3); !errors.Is(err, consumer.ErrNoDeadLetter) {
		t.Errorf("to discard it says %v", err)
	}
	awaitForgotten(w, func() error { return in.Forget(w.Ctx, w.DB, "second") })

	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) {
		cfg.Schema, cfg.Log, cfg.Checkpoints = schema, log, deliverer.PostgresCheckpointsIn(w.DB, schema)
	})
	w.WantCount("delivered", w.Repeat(d.RunOnce), 3)
	w.Exec(`UPDATE second.checkpoints SET updated_at = 'epoch'`)
	d = w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) {
		cfg.Log, cfg.Archive, cfg.Checkpoints = log, nil, deliverer.PostgresCheckpointsIn(w.DB, schema)
	})
	w.WantCount("delivered then", w.Repeat(d.RunOnce), 0)
	if !world.Query[bool](w, `SELECT updated_at > 'epoch' FROM second.checkpoints`) {
		t.Error("it is not alive in its schema")
	}
	w.WantCount("checkpoints", world.Query[int](w, `SELECT count(*) FROM second.checkpoints WHERE name = 'hook' AND "offset" = 3`), 1)
	w.WantCount("checkpoints of the other log", world.Query[int](w, `SELECT count(*) FROM unilog.checkpoints`), 0)
}

func TestSchemasThatReadersRefuse(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	_, err := consumer.New(consumer.Config{Name: "sum", DB: w.DB, Log: w.Log, Handler: world.CountEntries(new(int)), Schema: "No"})
	_, err2 := deliverer.New(deliverer.Config{
		Name: "hook", Log: w.Log, Checkpoints: deliverer.PostgresCheckpoints(w.DB), Schema: "No",
		Deliver: func(context.Context, string, []unilog.Entry) error { return nil },
	})
	if err == nil || err2 == nil {
		t.Errorf("they say %v and %v", err, err2)
	}
}
