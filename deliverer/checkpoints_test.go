package deliverer_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
)

func TestCheckpointsAreGuarded(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	file := openFile(t, filepath.Join(t.TempDir(), "checkpoints"))
	defer file.Close()
	for name, c := range map[string]deliverer.Checkpoints{"Postgres": deliverer.PostgresCheckpoints(w.DB), "file": file} {
		t.Run(name, func(t *testing.T) {
			key := deliverer.CheckpointKey{Name: "hook", LogID: "mine", Partition: 2}
			two, four := unilog.Cursor{Offset: 2, Position: "p2"}, unilog.Cursor{Offset: 4}
			want := func(key deliverer.CheckpointKey, want unilog.Cursor) {
				t.Helper()
				if at, err := c.Load(t.Context(), key); err != nil || at != want {
					t.Errorf("the checkpoint of partition %d is %+v, %v; want %+v", key.Partition, at, err, want)
				}
			}
			save := func(from, to unilog.Cursor, want error) {
				t.Helper()
				if err := c.Save(t.Context(), key, from, to); !errors.Is(err, want) {
					t.Errorf("from %d to %d: %v, want %v", from.Offset, to.Offset, err, want)
				}
			}
			want(key, unilog.Cursor{})
			save(unilog.Cursor{}, two, nil)
			save(unilog.Cursor{}, four, deliverer.ErrOvertaken)
			want(key, two)
			save(two, two, nil)
			save(two, four, nil)
			save(two, two, deliverer.ErrOvertaken)
			want(key, four)
			other := key
			other.Partition = 0
			want(other, unilog.Cursor{})
			key.LogID = "another"
			var foreign *deliverer.ForeignCheckpointError
			if _, err := c.Load(t.Context(), key); !errors.As(err, &foreign) || foreign.Theirs != "mine" {
				t.Errorf("of another log it says %v", err)
			}
			if err := c.Save(t.Context(), key, four, two); err == nil {
				t.Error("another log moves it")
			}
		})
	}
}

// TestIdleDelivererSeesThatItCannotSave makes the database of the checkpoints read only while
// there is nothing to deliver.
func TestIdleDelivererSeesThatItCannotSave(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(1)
	db, err := pgxpool.NewWithConfig(w.Ctx, w.DB.Config())
	w.Must(err)
	testenv.ClosePool(t, db)
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) { cfg.Checkpoints = deliverer.PostgresCheckpoints(db) }, deliverer.Beating)
	ctx, stop := context.WithCancel(w.Ctx)
	t.Cleanup(stop)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	await.Equal(t, "the checkpoint", 1, w.Delivered)
	await.True(t, "the deliverer to be ready", func() bool { return d.Ready() == nil })
	const setDefault = `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = %L', current_database(), '`
	w.Exec(setDefault + `on'); END $$`)
	db.Reset()
	w.AwaitNotReady(d.Ready, "takes no writes")
	w.Exec(setDefault + `off'); END $$`) // for new sessions
	await.True(t, "the deliverer to be ready again", func() bool { return d.Ready() == nil })
	w.Publish(1)
	await.Equal(t, "the checkpoint", 2, w.Delivered)
	stop()
	w.Must(await.Receive(t, "Run to end", ended))
}

// TestTwoDeliverers runs two instances of a name that crash after they have
// delivered and before they save. Both begin with the first entry.
func TestTwoDeliverers(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`
		CREATE TABLE moves (n bigint GENERATED ALWAYS AS IDENTITY, old bigint, new bigint);
		CREATE FUNCTION note_move() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN INSERT INTO moves (old, new) VALUES (OLD."offset", NEW."offset"); RETURN NEW; END $$;
		CREATE TRIGGER moves AFTER UPDATE ON unilog.checkpoints FOR EACH ROW EXECUTE FUNCTION note_move()`)
	w.Publish(100)
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var all world.Arrivals
	var alone [2]world.Arrivals
	var processes errgroup.Group
	var crashes atomic.Int32
	var begun sync.WaitGroup
	begun.Add(len(alone))
	for i := range alone {
		begin := sync.OnceFunc(func() { begun.Done(); begun.Wait() })
		var mu sync.Mutex
		crash := unilog.SimulateFailures(0.3, uint64(i))
		d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
			begin()
			mu.Lock()
			defer mu.Unlock()
			return errors.Join(alone[i].Deliver(ctx, logID, entries), all.Deliver(ctx, logID, entries))
		}, func(cfg *deliverer.Config) {
			cfg.BatchRecords, cfg.Timeout = 1+2*i, await.Patience // for the other to begin
			cfg.Checkpoints = crashing{cfg.Checkpoints, func() error {
				err := crash(ctx, nil)
				if err != nil {
					crashes.Add(1)
				}
				return err
			}, func() error { return nil }}
		}, deliverer.Hurried)
		processes.Go(func() error { return d.Run(ctx) })
	}
	await.Equal(t, "the checkpoint", 100, w.Delivered)
	stop()
	w.Must(processes.Wait())
	all.WantAll(w, 0, 100)
	w.WantCount("moves back", world.Query[int](w, `SELECT count(*) FROM moves WHERE new < old`), 0)
	w.WantCount("moves over a hole", world.Query[int](w, `
		SELECT count(*) FROM (SELECT old, lag(new, 1, 0) OVER (ORDER BY n) AS before FROM moves) AS m WHERE old <> before`), 0)
	if n := all.Count(); crashes.Load() == 0 || n <= 100 {
		t.Errorf("%d deliveries of 100 entries with %d crashes, want more of both", n, crashes.Load())
	}
	for i := range alone {
		if len(alone[i].Offsets(0)) == 0 {
			t.Errorf("instance %d has delivered nothing", i)
		}
	}
}
