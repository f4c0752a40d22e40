package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/cputime"
)

// trickleRate is how many records a second are staged in part trickle.
const trickleRate = 10

// measureTrickle measures what records cost that come one by one, which no batch
// makes cheaper.
func measureTrickle(ctx context.Context, r *round) error {
	return r.within(ctx, func(w *world) error {
		conns, err := connectProducers(ctx, w.databaseURL)
		defer closeProducers(conns)
		if err != nil {
			return err
		}
		streamer, err := w.start("streamer")
		if err != nil {
			return err
		}
		// The first batch makes what all others find.
		if err := stageOurs(ctx, conns[0], 1, 1); err != nil {
			return err
		}
		if err := w.awaitPublished(ctx, 1); err != nil {
			return err
		}
		before, err := w.trickled(ctx, streamer)
		if err != nil {
			return err
		}
		records := int(trickleRate * w.d.Seconds())
		if err := w.trickle(ctx, conns, records); err != nil {
			return err
		}
		if err := w.awaitPublished(ctx, records+1); err != nil {
			return err
		}
		after, err := w.trickled(ctx, streamer)
		if err != nil {
			return err
		}
		w.addTrickle(before, after, float64(records))
		return w.stop()
	})
}

// trickle stages records, each by a transaction of its own and at a random time.
func (w *world) trickle(ctx context.Context, conns []*pgx.Conn, records int) error {
	due := drawTimes(rand.New(rand.NewPCG(1, 0)), records, 0, w.d)
	err := atTimes(ctx, len(conns), due, func(ctx context.Context, worker, i int, _ time.Time, _ bool) error {
		w.progress.show(float64(i)/float64(records), plural(trickleRate, "record")+"/s")
		return stageOurs(ctx, conns[worker], i+2, 1)
	})
	if err != nil {
		return w.blame(fmt.Errorf("stage at %d records/s: %w", trickleRate, err))
	}
	return nil
}

func (w *world) awaitPublished(ctx context.Context, records int) error {
	return w.await(ctx, func() (bool, error) {
		published, err := w.published(ctx)
		return published >= int64(records), err
	})
}

// trickled is what records that trickle in leave behind.
type trickled struct {
	at                        time.Time
	wal, archive, dead        float64
	process, postgres, engine time.Duration // 0 where the system does not tell
}

func (w *world) trickled(ctx context.Context, p *program) (t trickled, err error) {
	t.at = time.Now()
	t.process, _ = p.cpu()
	if t.postgres, err = cputime.Of(w.servers.postgres.Pid()); err != nil {
		return t, err
	}
	if t.engine, err = cputime.Of(w.servers.redis.Pid()); err != nil {
		return t, err
	}
	err = w.db.QueryRow(ctx, sqlTrickled).Scan(&t.wal, &t.archive, &t.dead)
	return t, err
}

func (w *world) addTrickle(before, after trickled, records float64) {
	step := plural(trickleRate, "record") + "/s: "
	w.add(step+"archive", "bytes/record", (after.archive-before.archive)/records, unlimited)
	w.add(step+"WAL", "bytes/record", (after.wal-before.wal)/records, unlimited)
	w.add(step+"dead tuples at the end", "rows", after.dead, unlimited)
	if after.process == 0 {
		return
	}
	seconds := after.at.Sub(before.at).Seconds()
	percent := func(name string, d time.Duration) {
		w.add(step+name+", CPU", "% of a core", 100*d.Seconds()/seconds, unlimited)
	}
	percent("streamer", after.process-before.process)
	percent("Postgres", after.postgres-before.postgres)
	percent("Redis", after.engine-before.engine)
}
