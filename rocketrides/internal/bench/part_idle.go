package bench

import (
	"context"
	"strconv"
	"time"
)

// measureIdle runs a streamer and two consumers that have nothing to do.
func measureIdle(ctx context.Context, r *round) error {
	return r.within(ctx, func(w *world) error {
		names := []string{"first", "second"}
		if err := w.startIdle(ctx, names); err != nil {
			return err
		}
		w.redis.Close() // it is not idle

		began, err := w.busy(ctx)
		if err != nil {
			return err
		}
		for tick := time.Tick(drawPause); time.Since(began.at) < w.d; {
			select {
			case <-tick:
			case <-ctx.Done():
				return ctx.Err()
			}
			w.progress.show(time.Since(began.at).Seconds()/w.d.Seconds(), "idle")
		}
		ended, err := w.busy(ctx)
		if err != nil {
			return err
		}
		seconds := ended.at.Sub(began.at).Seconds()
		if ended.cpu > 0 {
			w.add("streamer and two consumers, CPU", "% of a core", 100*(ended.cpu-began.cpu).Seconds()/seconds, unlimited)
		}
		w.add("Postgres", "transactions/s", float64(ended.transactions-began.transactions)/seconds, unlimited)
		w.add("Redis", "commands/s", float64(ended.commands-began.commands-1)/seconds, unlimited) // less the question itself
		return nil
	})
}

// startIdle starts the processes and waits until all have done something.
func (w *world) startIdle(ctx context.Context, names []string) error {
	if _, err := w.start("streamer"); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := w.start("consumer", name); err != nil {
			return err
		}
	}
	if err := w.stage(ctx, 1); err != nil {
		return err
	}
	return w.await(ctx, func() (bool, error) {
		for _, name := range names {
			offset, err := w.applied(ctx, name)
			if err != nil || offset == 0 {
				return false, err
			}
		}
		return true, nil
	})
}

// business is what was done up to a time.
type business struct {
	at                     time.Time
	cpu                    time.Duration // 0 if it is not known
	transactions, commands int64
}

const sqlTransactions = `SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = $1`

// busy counts. Postgres's sessions report once a second what they have done:
// the count is that of a moment in which one of them did.
func (w *world) busy(ctx context.Context) (b business, err error) {
	database := w.db.Config().ConnConfig.Database
	var before int64 = -1
	err = w.await(ctx, func() (bool, error) {
		err := w.servers.admin.QueryRow(ctx, sqlTransactions, database).Scan(&b.transactions)
		changed := before >= 0 && b.transactions != before
		before = b.transactions
		return changed, err
	})
	if err != nil {
		return b, err
	}
	b.at = time.Now()
	info, err := w.servers.redisInfo(ctx)
	if err != nil {
		return b, err
	}
	if b.commands, err = strconv.ParseInt(field(info, "total_commands_processed"), 10, 64); err != nil {
		return b, err
	}
	for _, p := range w.programs {
		cpu, _ := p.cpu()
		b.cpu += cpu
	}
	return b, nil
}
