package streamer_test

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestNothingIsPublishedThatNoStandbyHas takes the synchronous standby away. A commit
// whose wait for it was cancelled can be seen, by everyone, and is lost when the standby
// is promoted: nothing of it may get into the log.
func TestNothingIsPublishedThatNoStandbyHas(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			t.Parallel()
			w, server := world.SetupOwn(t, "-c", "wal_level=replica", "-c", "max_wal_senders=5")
			w.Repartition(partitions, 1)
			var failures atomic.Int64
			config := w.DB.Config()
			config.ConnConfig.RuntimeParams["synchronous_commit"] = "local" // which the streamer overrides
			db, err := pgxpool.NewWithConfig(w.Ctx, config)
			w.Must(err)
			testenv.ClosePool(t, db)
			s := w.Streamer(func(cfg *streamer.Config) {
				cfg.DB = db
				cfg.Observer.Failed = func(error) { failures.Add(1) }
			})
			stop := running(w, s)
			w.CommitKeyed(1, 1, world.Keys(8)...)
			w.AwaitPublished(8)

			testenv.AwaitStandbys(t, server, "away")
			w.Must(pgx.BeginFunc(w.Ctx, w.DB, func(tx pgx.Tx) error { // on the standby before it went away, say
				if _, err := tx.Exec(w.Ctx, `SET LOCAL synchronous_commit = local`); err != nil {
					return err
				}
				for _, key := range world.Keys(8) {
					r := unilog.Record{Action: "note", Object: "amount", Key: key, Data: []byte(`{"amount": 0}`)}
					if err := unilog.Stage(w.Ctx, tx, r); err != nil {
						return err
					}
				}
				return nil
			}))
			// The wait is cancelled after some seconds, and what was numbered can be seen.
			w.AwaitTrue("the records to be numbered", `SELECT sum(next_offset - 1) = 16 FROM unilog.partitions`)
			before := failures.Load()
			w.AwaitThat("the streamer to try it twice more", func() bool { return failures.Load() >= before+2 })
			published := int64(0)
			for p := range partitions {
				stream := w.Stream
				if p > 0 {
					stream += fmt.Sprint(":", p)
				}
				n, err := w.Command("XLEN", stream).AsInt64()
				w.Must(err)
				published += n
			}
			if published != 8 {
				t.Errorf("%d are published that no standby has", published-8)
			}

			conn, err := w.DB.Acquire(w.Ctx)
			w.Must(err)
			for _, sql := range []string{`SET synchronous_commit = local`, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`} {
				_, err = conn.Exec(w.Ctx, sql)
				w.Must(err)
			}
			conn.Release()
			w.AwaitPublished(16)
			stop()
		})
	}
}
