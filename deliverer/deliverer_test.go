package deliverer_test

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
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

func TestDelivererDeliversInOrder(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var outside world.Arrivals
	var processes errgroup.Group
	s, d := w.Streamer(), w.Deliverer(outside.Deliver, deliverer.Hurried)
	processes.Go(func() error { return s.Run(ctx) })
	processes.Go(func() error { return d.Run(ctx) })
	for range 20 {
		w.Commit("1", "2", "4")
	}
	await.Equal(t, "the checkpoint", 60, w.Delivered)
	w.Must(d.Ready())
	stop()
	w.Must(processes.Wait())
	want := make([]int64, 60)
	for i := range want {
		want[i] = int64(i + 1)
	}
	outside.Want(w, want...)
	if logID := world.Query[string](w, `SELECT log_id::text FROM log_partitions`); len(outside.LogIDs) != 1 || !outside.LogIDs[logID] {
		t.Errorf("delivered as of the logs %v, want %s", outside.LogIDs, logID)
	}
}

// crashing fails before or after it saves, as a process that is killed there.
type crashing struct {
	deliverer.Checkpoints
	before, after func() error
}

func (c crashing) Save(ctx context.Context, key deliverer.CheckpointKey, from, to unilog.Cursor) error {
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
			w := world.SetupOnRedis(t)
			w.Publish(3)
			var outside world.Arrivals
			begin := func() *deliverer.Deliverer {
				return w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) {
					cfg.Checkpoints, cfg.BatchRecords = crashing{cfg.Checkpoints, test.before, test.after}, test.batch
				})
			}
			d := begin()
			w.Repeat(func(ctx context.Context) (int, error) {
				n, err := d.RunOnce(ctx)
				if err != nil {
					d = begin() // the next process
				}
				return n, err
			})
			outside.Want(w, test.want...)
			w.WantCount("checkpoint", int(w.Delivered()), 3)
		})
	}
}

// TestDelivererGoesOnWhenDeliveryDoes lets deliveries fail in every way there is.
func TestDelivererGoesOnWhenDeliveryDoes(t *testing.T) {
	t.Parallel()
	for _, batch := range []int{1, 8} {
		t.Run(fmt.Sprint(batch), func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Publish(20)
			var outside world.Arrivals
			calls := 0
			d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
				calls++
				switch {
				case entries[0].Offset > 7 || calls > 20:
					return outside.Deliver(ctx, logID, entries)
				case calls%4 == 0:
					panic("out of order")
				case calls%4 == 1:
					<-ctx.Done()
					return ctx.Err()
				case calls%4 == 2:
					return deliverer.RetryAfter(errors.New("busy"), time.Millisecond)
				}
				return errors.New("no such host")
			}, func(cfg *deliverer.Config) { cfg.BatchRecords, cfg.Timeout = batch, 5*time.Millisecond }, deliverer.Hurried)
			if n, err := d.RunOnce(w.Ctx); n != 0 || !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("the first batch: %d, %v", n, err)
			}
			if err := d.Ready(); err == nil || !strings.Contains(err.Error(), "offset 1") {
				t.Errorf("it is ready: %v", err)
			}
			ctx, stop := context.WithCancel(w.Ctx)
			defer stop()
			var process errgroup.Group
			process.Go(func() error { return d.Run(ctx) })
			await.Equal(t, "the checkpoint", 20, w.Delivered)
			stop()
			w.Must(process.Wait())
			outside.WantAll(w, 0, 20)
			w.WantCount("arrived", len(outside.Offsets(0)), 20)
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
		"at a rejection":             {deliverer.Reject(errors.New("gone")), 0, 1},
		"at a rejection in a batch":  {deliverer.Reject(errors.New("gone")), 0, 8},
		"after attempts":             {errors.New("gone"), 3, 1},
		"after attempts and a batch": {errors.New("gone"), 3, 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Publish(10)
			var outside world.Arrivals
			tries := 0
			change := func(cfg *deliverer.Config) {
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
			err := w.EndOf(w.Ctx, w.Deliverer(outside.Picky(6, test.why), deliverer.Hurried, change).Run)
			if !errors.As(err, &rejected) || rejected.Offset != 6 || rejected.Err.Error() != "gone" {
				t.Fatalf("it ends with %v", err)
			}
			outside.Want(w, 1, 2, 3, 4, 5)
			w.WantCount("attempts", tries, max(1, test.attempts))

			ctx, stop := context.WithCancel(w.Ctx)
			defer stop()
			var process errgroup.Group
			parks := w.Deliverer(outside.Picky(6, test.why), deliverer.Hurried, change, func(cfg *deliverer.Config) { cfg.ParkRejected = true })
			process.Go(func() error { return parks.Run(ctx) })
			await.Equal(t, "the checkpoint", 10, w.Delivered)
			stop()
			w.Must(process.Wait())
			outside.Want(w, 1, 2, 3, 4, 5, 7, 8, 9, 10)
			letters, err := consumer.DeadLetters(w.Ctx, w.DB, "hook")
			w.Must(err)
			if len(letters) != 1 || letters[0].Offset != 6 || letters[0].Reason != "gone" {
				t.Fatalf("parked: %+v", letters)
			}
			w.Must(consumer.RetryDeadLetter(w.Ctx, w.DB, "hook", 0, 6, func(ctx context.Context, _ pgx.Tx, entries []unilog.Entry) error {
				return outside.Deliver(ctx, "", entries)
			}))
			outside.Want(w, 1, 2, 3, 4, 5, 7, 8, 9, 10, 6)
		})
	}
}

func TestDelivererFillsGapsOrStops(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.BatchRecords = 10 })
	w.Repeat(d.RunOnce)
	w.Publish(6)
	w.Command("XTRIM", w.Stream, "MINID", "8")
	cut := w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.Archive = nil })
	var gap *unilog.GapError
	if err := w.EndOf(w.Ctx, cut.Run); !errors.As(err, &gap) || gap.From != 4 || gap.To != 7 {
		t.Fatalf("without the archive it ends with %v", err)
	}
	outside.Want(w, 1, 2, 3)
	w.Repeat(d.RunOnce)
	outside.Want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9)

	w.Publish(3)
	w.Exec(`DELETE FROM log_records WHERE "offset" <= 10`)
	w.Command("XTRIM", w.Stream, "MINID", "12")
	if _, err := d.RunOnce(w.Ctx); !errors.As(err, &gap) || gap.From != 10 || gap.To != 10 || !gap.Archive {
		t.Errorf("with an archive that has lost some: %v", err)
	}
	outside.Want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	w.Exec(`UPDATE checkpoints SET "offset" = 10`) // as another instance that had it
	w.Repeat(d.RunOnce)
	outside.Want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12)
}

// TestDelivererHasWhatAnEmptyLogLacks loses the log while the streamer is away.
func TestDelivererHasWhatAnEmptyLogLacks(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(5)
	w.Must(w.Memory.Trim(w.Ctx, 0, 5))
	var outside world.Arrivals
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var process errgroup.Group
	d := w.Deliverer(outside.Deliver, deliverer.Hurried)
	process.Go(func() error { return d.Run(ctx) })
	await.Equal(t, "the checkpoint", 5, w.Delivered)
	stop()
	w.Must(process.Wait())
	outside.Want(w, 1, 2, 3, 4, 5)
}

func TestDelivererOfAnotherLog(t *testing.T) {
	t.Parallel()
	w, other := world.SetupOnRedis(t), world.SetupOnRedis(t)
	w.Publish(3)
	other.Exec(`UPDATE log_partitions SET log_id = gen_random_uuid()`) // the tests' databases are copies
	other.Publish(5)
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, deliverer.Hurried)
	w.Repeat(d.RunOnce)
	var foreign *deliverer.ForeignCheckpointError
	astray := func(cfg *deliverer.Config) { cfg.Log, cfg.Archive = other.Log, nil }
	if err := w.EndOf(w.Ctx, w.Deliverer(outside.Deliver, deliverer.Hurried, astray).Run); !errors.As(err, &foreign) {
		t.Errorf("with a checkpoint of another log it ends with %v", err)
	}
	var foreignLog *unilog.ForeignLogError
	mixed := func(cfg *deliverer.Config) { cfg.Name, cfg.Archive = "b", other.DB }
	if err := w.EndOf(w.Ctx, w.Deliverer(outside.Deliver, deliverer.Hurried, mixed).Run); !errors.As(err, &foreignLog) {
		t.Errorf("with the archive of another log it ends with %v", err)
	}
	w.Consume(w.Consumer("sum"))
	named := func(cfg *deliverer.Config) { cfg.Name = "sum" }
	if err := w.EndOf(w.Ctx, w.Deliverer(outside.Deliver, deliverer.Hurried, named).Run); !errors.As(err, &foreign) {
		t.Errorf("with the name of a consumer it ends with %v", err)
	}

	// The stream is replaced under one that runs.
	w.Command("COPY", other.Stream, w.Stream, "REPLACE")
	w.Command("COPY", "{"+other.Stream+"}:leader", "{"+w.Stream+"}:leader", "REPLACE")
	if n, err := d.RunOnce(w.Ctx); n != 0 || !errors.As(err, &foreign) {
		t.Errorf("with another log in the place of its own: %d, %v", n, err)
	}
	outside.Want(w, 1, 2, 3)
	w.Wipe()
}
