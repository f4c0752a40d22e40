package bench

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// measureStreamer drains a backlog.
func measureStreamer(ctx context.Context, r *round) error {
	return r.within(ctx, func(w *world) error {
		if err := w.stage(ctx, w.records); err != nil {
			return err
		}
		y, streamer, err := w.drain(ctx, w.records)
		if err != nil {
			return err
		}
		memory, known := streamer.memory()
		if err := w.stop(); err != nil {
			return err
		}
		redis, err := w.redisBenchmark(ctx, w.records, 1)
		if err != nil {
			return err
		}
		w.add("drain "+number(float64(w.records)), "records/s", y.rate(), redis)
		if known {
			w.add("memory at the most", "MB", memory, unlimited)
		}
		return nil
	})
}

// drain starts a streamer and follows it until all records are published and
// the database knows.
func (w *world) drain(ctx context.Context, records int, args ...string) (way, *program, error) {
	streamer, err := w.start(append([]string{"streamer"}, args...)...)
	if err != nil {
		return nil, nil, err
	}
	y, err := w.follow(ctx, int64(records), w.head)
	if err != nil {
		return nil, nil, err
	}
	err = w.await(ctx, func() (bool, error) {
		published, err := w.published(ctx)
		return published >= int64(records), err
	})
	return y, streamer, err
}

// smallBacklog is what longer ones are compared with.
const smallBacklog = 100_000

// measureBacklog drains a short backlog, a long one, and one whose dead rows
// cannot be vacuumed because another session may still need them.
func measureBacklog(ctx context.Context, r *round) error {
	small := min(smallBacklog, r.records)
	var base limit
	r.progress.span(0, 0.1)
	err := r.within(ctx, func(w *world) error {
		y, err := w.drainBacklog(ctx, small)
		if err != nil {
			return err
		}
		redis, err := w.redisBenchmark(ctx, small, 1)
		if err != nil {
			return err
		}
		base = limit{"drain " + number(float64(small)), y.rate()}
		w.add(base.name, "records/s", base.value, redis)
		return nil
	})
	if err != nil {
		return err
	}
	r.progress.span(0.1, 0.8)
	err = r.within(ctx, func(w *world) error {
		y, err := w.drainBacklog(ctx, w.backlog)
		if err != nil {
			return err
		}
		w.add("drain "+number(float64(w.backlog)), "records/s", y.rate(), base)
		r.drained = append(r.drained, y.series(number(float64(w.backlog))+" records"))
		return nil
	})
	if err != nil {
		return err
	}
	r.progress.span(0.8, 1)
	return r.within(ctx, func(w *world) error {
		snapshot, err := w.db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
		if err != nil {
			return err
		}
		defer func() { _ = snapshot.Rollback(context.WithoutCancel(ctx)) }()
		if _, err := snapshot.Exec(ctx, `SELECT count(*) FROM rides`); err != nil {
			return fmt.Errorf("take a snapshot: %w", err)
		}
		y, err := w.drainBacklog(ctx, w.records)
		if err != nil {
			return err
		}
		w.add("drain "+number(float64(w.records))+" under an open snapshot", "records/s", y.rate(), base)
		r.drained = append(r.drained, y.series(number(float64(w.records))+" records under an open snapshot"))
		return nil
	})
}

func (w *world) drainBacklog(ctx context.Context, records int) (way, error) {
	if err := w.stage(ctx, records); err != nil {
		return nil, err
	}
	y, _, err := w.drain(ctx, records)
	if err != nil {
		return nil, err
	}
	return y, w.stop()
}

// series is the rate between two points of the way, against what was left.
func (y way) series(name string) series {
	s := series{name: name}
	last := y[len(y)-1].offset
	for i := 1; i < len(y); i++ {
		s.points = append(s.points, point{x: float64(last - y[i-1].offset), y: y[i-1 : i+1].rate()})
	}
	return s
}
