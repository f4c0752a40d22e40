package unilog_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
)

func TestDelivererDeliversInOrder(t *testing.T) {
	t.Parallel()
	w := setup(t)
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var outside arrivals
	var processes errgroup.Group
	s, d := w.streamer(), w.deliverer(outside.deliver)
	processes.Go(func() error { return s.Run(ctx) })
	processes.Go(func() error { return d.Run(ctx) })
	for range 20 {
		w.commit("1", "2", "4")
	}
	await.Equal(t, "the checkpoint", 60, w.delivered)
	w.must(d.Ready())
	stop()
	w.must(processes.Wait())
	want := make([]int64, 60)
	for i := range want {
		want[i] = int64(i + 1)
	}
	outside.want(w, want...)
	if logID := query[string](w, `SELECT log_id::text FROM log_partitions`); len(outside.logIDs) != 1 || !outside.logIDs[logID] {
		t.Errorf("delivered as of the logs %v, want %s", outside.logIDs, logID)
	}
}

// crashing fails before or after it saves, as a process that is killed there.
type crashing struct {
	unilog.Checkpoints
	before, after func() error
}

func (c crashing) Save(ctx context.Context, key unilog.CheckpointKey, from, to unilog.Cursor) error {
	if err := c.before(); err != nil {
		return err
	}
	return errors.Join(c.Checkpoints.Save(ctx, key, from, to), c.after())
}

// onceSimulated fails the first time.
func onceSimulated() func() error {
	failed := false
	return func() error {
		if failed {
			return nil
		}
		failed = true
		return unilog.ErrSimulated
	}
}

func TestDelivererCrashesAroundItsSave(t *testing.T) {
	t.Parallel()
	never := func() error { return nil }
	for name, test := range map[string]struct {
		batch         int
		before, after func() error
		want          []int64
	}{
		"before it, one by one":  {1, onceSimulated(), never, []int64{1, 1, 2, 3}},
		"before it, in batches":  {2, onceSimulated(), never, []int64{1, 2, 1, 2, 3}},
		"after it, one by one":   {1, never, onceSimulated(), []int64{1, 2, 3}},
		"after it, in batches":   {2, never, onceSimulated(), []int64{1, 2, 3}},
		"before it and after it": {1, onceSimulated(), onceSimulated(), []int64{1, 1, 2, 3}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.publish(3)
			var outside arrivals
			begin := func() *unilog.Deliverer {
				return w.deliverer(outside.deliver, func(cfg *unilog.DelivererConfig) {
					cfg.Checkpoints, cfg.BatchRecords = crashing{cfg.Checkpoints, test.before, test.after}, test.batch
				})
			}
			d := begin()
			w.repeat(func(ctx context.Context) (int, error) {
				n, err := d.RunOnce(ctx)
				if err != nil {
					d = begin() // the next process
				}
				return n, err
			})
			outside.want(w, test.want...)
			w.wantCount("checkpoint", int(w.delivered()), 3)
		})
	}
}

// TestDelivererGoesOnWhenDeliveryDoes lets deliveries fail in every way there is.
func TestDelivererGoesOnWhenDeliveryDoes(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 8} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.publish(20)
			var outside arrivals
			calls := 0
			d := w.deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
				calls++
				switch {
				case entries[0].Offset > 7 || calls > 20:
					return outside.deliver(ctx, logID, entries)
				case calls%4 == 0:
					panic("out of order")
				case calls%4 == 1:
					<-ctx.Done()
					return ctx.Err()
				case calls%4 == 2:
					return unilog.RetryAfter(errors.New("busy"), time.Millisecond)
				}
				return errors.New("no such host")
			}, func(cfg *unilog.DelivererConfig) { cfg.BatchRecords, cfg.Timeout = batch, 5*time.Millisecond })
			if n, err := d.RunOnce(w.ctx); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first batch: %d, %v", n, err)
			}
			if err := d.Ready(); err == nil || !strings.Contains(err.Error(), "offset 1") {
				t.Errorf("it is ready: %v", err)
			}
			ctx, stop := context.WithCancel(w.ctx)
			defer stop()
			var process errgroup.Group
			process.Go(func() error { return d.Run(ctx) })
			await.Equal(t, "the checkpoint", 20, w.delivered)
			stop()
			w.must(process.Wait())
			outside.wantAll(w, 0, 20)
			w.wantCount("arrived", len(outside.offsets(0)), 20)
		})
	}
}

func TestDelivererHaltsOrParks(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		why      error
		attempts int
		batch    int
	}{
		"at a rejection":             {unilog.Reject(errors.New("gone")), 0, 1},
		"at a rejection in a batch":  {unilog.Reject(errors.New("gone")), 0, 8},
		"after attempts":             {errors.New("gone"), 3, 1},
		"after attempts and a batch": {errors.New("gone"), 3, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			w.publish(10)
			var outside arrivals
			tries := 0
			change := func(cfg *unilog.DelivererConfig) {
				cfg.Attempts, cfg.BatchRecords = test.attempts, test.batch
				deliver := cfg.Deliver
				cfg.Deliver = func(ctx context.Context, logID string, entries []unilog.Entry) error {
					if len(entries) == 1 && entries[0].Offset == 6 {
						tries++
					}
					return deliver(ctx, logID, entries)
				}
			}
			var rejected *unilog.RejectedError
			err := w.endOf(w.ctx, w.deliverer(outside.picky(6, test.why), change).Run)
			if !errors.As(err, &rejected) || rejected.Offset != 6 || rejected.Err.Error() != "gone" {
				t.Fatalf("it ends with %v", err)
			}
			outside.want(w, 1, 2, 3, 4, 5)
			w.wantCount("attempts", tries, max(1, test.attempts))

			ctx, stop := context.WithCancel(w.ctx)
			defer stop()
			var process errgroup.Group
			parks := w.deliverer(outside.picky(6, test.why), change, func(cfg *unilog.DelivererConfig) { cfg.ParkRejected = true })
			process.Go(func() error { return parks.Run(ctx) })
			await.Equal(t, "the checkpoint", 10, w.delivered)
			stop()
			w.must(process.Wait())
			outside.want(w, 1, 2, 3, 4, 5, 7, 8, 9, 10)
			letters, err := unilog.DeadLetters(w.ctx, w.db, "hook")
			w.must(err)
			if len(letters) != 1 || letters[0].Offset != 6 || letters[0].Reason != "gone" {
				t.Fatalf("parked: %+v", letters)
			}
			w.must(unilog.RetryDeadLetter(w.ctx, w.db, "hook", 0, 6, func(ctx context.Context, _ pgx.Tx, entries []unilog.Entry) error {
				return outside.deliver(ctx, "", entries)
			}))
			outside.want(w, 1, 2, 3, 4, 5, 7, 8, 9, 10, 6)
		})
	}
}

func TestDelivererFillsGapsOrStops(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.publish(3)
	var outside arrivals
	d := w.deliverer(outside.deliver, func(cfg *unilog.DelivererConfig) { cfg.BatchRecords = 10 })
	w.repeat(d.RunOnce)
	w.publish(6)
	w.command("XTRIM", w.stream, "MINID", "8")
	cut := w.deliverer(outside.deliver, func(cfg *unilog.DelivererConfig) { cfg.Archive = nil })
	var gap *unilog.GapError
	if err := w.endOf(w.ctx, cut.Run); !errors.As(err, &gap) || gap.From != 4 || gap.To != 7 {
		t.Fatalf("without the archive it ends with %v", err)
	}
	outside.want(w, 1, 2, 3)
	w.repeat(d.RunOnce)
	outside.want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9)

	w.publish(3)
	w.exec(`DELETE FROM log_records WHERE "offset" <= 10`)
	w.command("XTRIM", w.stream, "MINID", "12")
	if _, err := d.RunOnce(w.ctx); !errors.As(err, &gap) || gap.From != 10 || gap.To != 10 || !gap.Archive {
		t.Errorf("with an archive that has lost some: %v", err)
	}
	outside.want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	w.exec(`UPDATE checkpoints SET "offset" = 10`) // as another instance that had it
	w.repeat(d.RunOnce)
	outside.want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)
}

// TestDelivererHasWhatAnEmptyLogLacks loses the log while the streamer is away.
func TestDelivererHasWhatAnEmptyLogLacks(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.publish(5)
	w.command("XTRIM", w.stream, "MAXLEN", "0")
	var outside arrivals
	ctx, stop := context.WithCancel(w.ctx)
	defer stop()
	var process errgroup.Group
	d := w.deliverer(outside.deliver)
	process.Go(func() error { return d.Run(ctx) })
	await.Equal(t, "the checkpoint", 5, w.delivered)
	stop()
	w.must(process.Wait())
	outside.want(w, 1, 2, 3, 4, 5)
}

func TestDelivererOfAnotherLog(t *testing.T) {
	t.Parallel()
	w, other := setup(t), setup(t)
	w.publish(3)
	other.exec(`UPDATE log_partitions SET log_id = gen_random_uuid()`) // the tests' databases are copies
	other.publish(5)
	var outside arrivals
	d := w.deliverer(outside.deliver)
	w.repeat(d.RunOnce)
	var foreign *unilog.ForeignCheckpointError
	astray := func(cfg *unilog.DelivererConfig) { cfg.Log, cfg.Archive = other.log, nil }
	if err := w.endOf(w.ctx, w.deliverer(outside.deliver, astray).Run); !errors.As(err, &foreign) {
		t.Errorf("with a checkpoint of another log it ends with %v", err)
	}
	var foreignLog *unilog.ForeignLogError
	mixed := func(cfg *unilog.DelivererConfig) { cfg.Name, cfg.Archive = "b", other.db }
	if err := w.endOf(w.ctx, w.deliverer(outside.deliver, mixed).Run); !errors.As(err, &foreignLog) {
		t.Errorf("with the archive of another log it ends with %v", err)
	}
	w.consume(w.consumer("sum"))
	named := func(cfg *unilog.DelivererConfig) { cfg.Name = "sum" }
	if err := w.endOf(w.ctx, w.deliverer(outside.deliver, named).Run); !errors.As(err, &foreign) {
		t.Errorf("with the name of a consumer it ends with %v", err)
	}

	// The stream is replaced under one that runs.
	w.command("COPY", other.stream, w.stream, "REPLACE")
	w.command("COPY", "{"+other.stream+"}:leader", "{"+w.stream+"}:leader", "REPLACE")
	if n, err := d.RunOnce(w.ctx); n != 0 || !errors.As(err, &foreign) {
		t.Errorf("with another log in the place of its own: %d, %v", n, err)
	}
	outside.want(w, 1, 2, 3)
	w.wipe()
}
