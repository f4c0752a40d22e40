package streamer_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/streamer"
)

// TestTooManyPartitionsForTheLocks has a server with room for fewer locks than there are
// partitions: some are led, the others wait, and others have locks left.
func TestTooManyPartitionsForTheLocks(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t, "-c", "max_connections=20", "-c", "max_locks_per_transaction=10")
	db, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	testenv.ClosePool(t, db)
	w := world.Bare(t, db)
	w.Log = logtest.NewMemory()
	w.Must(world.MigrateWorld(w.Ctx, db))
	w.Repartition(300, 1)
	led := func() int {
		return world.Query[int](w, `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'unilog.partitions'::regclass`)
	}
	failures := make(chan error, 100)
	s := w.Streamer(func(cfg *streamer.Config) {
		cfg.Observer.Failed = func(err error) {
			if postgres.SQLState(err) != "53200" { // out of memory for locks; a call may take too long
				return
			}
			select {
			case failures <- err:
			default:
			}
		}
	})
	_, err = w.Patiently(s.RunOnce)
	w.Must(err)
	w.WantCount("partitions that are led by RunOnce", led(), 100)
	stop := running(w, s)
	world.AwaitEqual(w, "the partitions that are led", 100, led)
	w.Await("the streamer to say why", func() string {
		if err := s.Ready(); err == nil || !strings.Contains(err.Error(), "only 100 of 300 partitions are led, as Postgres has room for 200 locks: make its max_locks_per_transaction 4 times as large") {
			return errors.Join(errors.New("it says"), err).Error()
		}
		return ""
	})
	w.CommitKeyed(1, 1, world.KeyOf(0, 300))
	w.AwaitTrue("what is led to be published", `SELECT published_offset = 1 FROM unilog.partitions WHERE partition = 0`)
	stop()
	select {
	case err := <-failures:
		t.Errorf("it failed: %v", err)
	default:
	}
}
