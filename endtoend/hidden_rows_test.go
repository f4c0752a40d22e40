package endtoend_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/status"
	"github.com/rocketrides/unilog/streamer"
	"github.com/rocketrides/unilog/switchlog"
)

// readers are all that read the log's tables, and give an error if they fail.
func readers(w *world.World, db *pgxpool.Pool) map[string]func(context.Context) error {
	here := func(context.Context, string) (switchlog.Engine, error) { return pglog.Open(w.Ctx, w.DB, "") }
	return map[string]func(context.Context) error{
		"streamer": func(ctx context.Context) error {
			s := w.Streamer(func(cfg *streamer.Config) { cfg.DB = db })
			defer s.Close()
			_, err := s.RunOnce(ctx)
			return err
		},
		"consumer": func(ctx context.Context) error {
			_, err := w.Consumer("sum", func(cfg *consumer.Config) { cfg.DB, cfg.Archive = db, db }).RunOnce(ctx)
			return err
		},
		"deliverer": func(ctx context.Context) error {
			_, err := deliverer.PostgresCheckpoints(db).Load(ctx, deliverer.CheckpointKey{Name: "hook", LogID: "log"})
			return err
		},
		"Postgres alone": func(ctx context.Context) error {
			log, err := pglog.Open(ctx, db, "")
			if err != nil {
				return err
			}
			defer log.Close()
			_, err = log.Read(ctx, 0, unilog.Cursor{}, 10, 0)
			return err
		},
		"switchlog": func(ctx context.Context) error {
			log, err := switchlog.Open(ctx, db, "", here)
			if err == nil {
				log.Close()
			}
			return err
		},
		"status": func(ctx context.Context) error { _, err := status.Read(ctx, db, "", nil); return err },
		"audit":  func(ctx context.Context) error { _, err := world.Audit.Check(ctx, db); return err },
		"dead letters": func(ctx context.Context) error {
			_, err := consumer.DeadLetters(ctx, db, "")
			return err
		},
		"forget": func(ctx context.Context) error {
			if err := consumer.Forget(ctx, db, "nobody"); !strings.Contains(fmt.Sprint(err), consumer.ErrUnknown.Error()) {
				return err
			}
			return nil
		},
		"migrations": func(ctx context.Context) error { return migration.Check(ctx, db, migration.Log) },
	}
}

// TestRowsThatCannotBeSeen hides one table after the other. Whoever reads it names it;
// nobody takes its rows for none.
func TestRowsThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Commit("1")
	w.StreamAll()
	w.Consume(w.Consumer("sum"))
	w.Must(readers(w, w.DB)["deliverer"](w.Ctx))
	bound := w.Bound()
	for table, names := range map[string]string{
		"staged_records": "streamer, status, audit",
		"log":            "streamer, consumer, Postgres alone, status, migrations",
		"partitions":     "streamer, consumer, Postgres alone, status, audit, migrations",
		"batches":        "streamer, Postgres alone, status, audit, migrations",
		"places":         "switchlog, status, migrations",
		"checkpoints":    "consumer, deliverer, status, audit, forget",
		"members":        "status, forget",
		"leases":         "status, forget",
		"dead_letters":   "status, audit, dead letters, forget",
		"migrations":     "migrations",
	} {
		w.Commit("1")
		w.Exec(`ALTER TABLE unilog.` + table + ` ENABLE ROW LEVEL SECURITY; CREATE POLICY add ON unilog.` + table + ` FOR INSERT WITH CHECK (true)`)
		for name, read := range readers(w, bound) {
			err := read(w.Ctx)
			says := strings.Contains(fmt.Sprint(err), table) && strings.Contains(fmt.Sprint(err), "BYPASSRLS")
			if slices.Contains(strings.Split(names, ", "), name) != says || !says && err != nil {
				t.Errorf("%s: without %s it says %v", name, table, err)
			}
		}
		w.Exec(`ALTER TABLE unilog.` + table + ` DISABLE ROW LEVEL SECURITY; DROP POLICY add ON unilog.` + table)
		w.StreamAll()
		w.Consume(w.Consumer("sum"))
	}
	for name, read := range readers(w, bound) {
		if err := read(w.Ctx); err != nil {
			t.Errorf("%s, when nothing is hidden: %v", name, err)
		}
	}
}

// TestLeasesThatCannotBeSeen has a consumer run that may no longer see its leases: it
// goes on, and is not ready.
func TestLeasesThatCannotBeSeen(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	bound := w.Bound()
	c := w.Consumer("sum", func(cfg *consumer.Config) { cfg.DB, cfg.Archive = bound, bound })
	stop := w.Consumes(c)
	w.AwaitThat("the consumer to be ready", func() bool { return c.Ready() == nil })
	for _, table := range []string{"members", "leases"} {
		w.Exec(`REVOKE SELECT ON unilog.` + table + ` FROM pg_monitor`)
		w.AwaitThat("the consumer to say why", func() bool { return strings.Contains(fmt.Sprint(c.Ready()), "permission denied for table "+table) })
		w.Commit("1")
		w.StreamAll()
		w.AwaitTrue("the record to be applied", `SELECT coalesce((SELECT total FROM sums), 0) = (SELECT sum(amount) FROM amounts)`)
		w.Exec(`GRANT SELECT ON unilog.` + table + ` TO pg_monitor`)
		w.AwaitThat("the consumer to be ready again", func() bool { return c.Ready() == nil })
	}
	stop()
}
