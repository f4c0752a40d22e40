package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"
)

// measureConsumer consumes the whole log, by one consumer and then by two at
// the same time.
func measureConsumer(ctx context.Context, r *round) error {
	return r.within(ctx, func(w *world) error {
		w.progress.span(0, 0.5)
		if err := w.stage(ctx, w.records); err != nil {
			return err
		}
		if _, _, err := w.drain(ctx, w.records, fmt.Sprintf("--keep-records=%d", w.records)); err != nil {
			return err
		}
		if err := w.stop(); err != nil {
			return err
		}
		w.progress.span(0.5, 0.7)
		one, memory, err := w.consume(ctx, "first")
		if err != nil {
			return err
		}
		w.progress.span(0.7, 0.9)
		two, _, err := w.consume(ctx, "second", "third")
		if err != nil {
			return err
		}
		bare, err := w.bareConsumers(ctx, 1)
		if err != nil {
			return err
		}
		twoBare, err := w.bareConsumers(ctx, 2)
		if err != nil {
			return err
		}
		w.add("consume "+number(float64(w.records)), "records/s", one, bare)
		w.add("two consumers, together", "records/s", two, limit{"one consumer", one})
		// What the machine has left for a second one.
		w.add("two bare loops, together", "records/s", twoBare.value, bare)
		if memory > 0 {
			w.add("memory at the most", "MB", memory, unlimited)
		}
		return nil
	})
}

// consume starts consumers at once, and returns the sum of their rates, and the
// most memory that one of them had, 0 if that is not known.
func (w *world) consume(ctx context.Context, names ...string) (rate, memory float64, err error) {
	group, ctx := errgroup.WithContext(ctx)
	ways := make([]way, len(names))
	for _, name := range names {
		if _, err := w.start("consumer", name); err != nil {
			return 0, 0, err
		}
	}
	for i, name := range names {
		group.Go(func() (err error) {
			ways[i], err = w.follow(ctx, int64(w.records), func(ctx context.Context) (int64, error) { return w.applied(ctx, name) })
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	for i, p := range w.programs {
		rate += ways[i].rate()
		mb, _ := p.memory()
		memory = max(memory, mb)
	}
	return rate, memory, w.stop()
}

// bareBatch is how many records a consumer reads at once.
const bareBatch = 4000

// bareConsumers does the least that consumers must, each for itself: it reads the
// log and saves a checkpoint for each batch.
func (w *world) bareConsumers(ctx context.Context, n int) (limit, error) {
	w.progress.show(0.9, "the bare loop")
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for i := range n {
		group.Go(func() error { return w.bareConsumer(ctx, fmt.Sprintf("bare %d of %d", i+1, n)) })
	}
	if err := group.Wait(); err != nil {
		return limit{}, err
	}
	return limit{"bare loop of XRANGE and UPDATE", float64(n*w.records) / time.Since(began).Seconds()}, nil
}

func (w *world) bareConsumer(ctx context.Context, name string) error {
	if _, err := w.db.Exec(ctx, sqlBareConsumer, name, 0); err != nil {
		return err
	}
	redis, err := w.connectRedis() // the others do not wait in one line
	if err != nil {
		return err
	}
	defer redis.Close()
	for at := int64(0); at < int64(w.records); {
		from := strconv.FormatInt(at+1, 10)
		entries, err := redis.Do(ctx, redis.B().Xrange().Key(stream).Start(from).End("+").Count(bareBatch).Build()).ToArray()
		if err != nil {
			return err
		}
		if len(entries) == 0 {
			return fmt.Errorf("the log ends at %d of %d records", at, w.records)
		}
		at += int64(len(entries))
		if _, err := w.db.Exec(ctx, sqlBareCheckpoint, name, 0, at); err != nil {
			return err
		}
	}
	return nil
}
