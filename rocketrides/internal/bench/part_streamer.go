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
// cannot be vacuumed because another session may still need them, next to the same
// one without that.
func measureBacklog(ctx context.Context, r *round) error {
	small := min(smallBacklog, r.records)
	drain := func(records int, against func(w *world) (limit, error)) (drained limit, y way, err error) {
		err = r.within(ctx, func(w *world) error {
			if y, err = w.drainBacklog(ctx, records); err != nil {
				return err
			}
			most, err := against(w)
			if err != nil {
				return err
			}
			drained = limit{"drain " + number(float64(records)), y.rate()}
			w.add(drained.name, "records/s", drained.value, most)
			return nil
		})
		return drained, y, err
	}
	r.progress.span(0, 0.1)
	base, _, err := drain(small, func(w *world) (limit, error) { return w.redisBenchmark(ctx, small, 1) })
	if err != nil {
		return err
	}
	asBase := func(*world) (limit, error) { return base, nil }
	r.progress.span(0.1, 0.7)
	_, y, err := drain(r.backlog, asBase)
	if err != nil {
		return err
	}
	r.drained = append(r.drained, y.series(number(float64(r.backlog))+" records"))
	same := base
	if r.records > small {
		r.progress.span(0.7, 0.85)
		if same, _, err = drain(r.records, asBase); err != nil {
			return err
		}
	}
	r.progress.span(0.85, 1)
	return r.within(ctx, func(w *world) error { return w.drainUnderSnapshot(ctx, r, same) })
}

func (w *world) drainUnderSnapshot(ctx context.Context, r *round, same limit) error {
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
	w.add(same.name+" under an open snapshot", "records/s", y.rate(), same)
	r.drained = append(r.drained, y.series(number(float64(w.records))+" records under an open snapshot"))
	return nil
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
