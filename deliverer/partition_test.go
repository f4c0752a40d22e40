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
	"github.com/rocketrides/unilog/logtest"
)

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
			}, func(cfg *deliverer.Config) { cfg.BatchRecords, cfg.Timeout = batch, 5*time.Millisecond }, deliverer.Hurried, deliverer.Patient)
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

// TestDelivererBlamesTheDestination sees that a destination which refuses all has nothing
// but a few records parked.
func TestDelivererBlamesTheDestination(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.CommitMany(30)
	w.Drain(w.Streamer())
	refuse := func(context.Context, string, []unilog.Entry) error {
		return deliverer.Reject(errors.New("who are you?"))
	}
	d := w.Deliverer(refuse, func(cfg *deliverer.Config) { cfg.ParkRejected, cfg.BatchRecords = true, 8 })
	var rejected *unilog.RejectedError
	for range 2 {
		err := w.EndOf(w.Ctx, d.Run)
		if !errors.As(err, &rejected) || rejected.Offset != 21 || !strings.Contains(err.Error(), "who are you? (and the 20 records before it") {
			t.Errorf("it ends with %v", err)
		}
	}
	w.WantCount("checkpoint", int(w.Delivered()), 20)
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
			if halted := w.Status().Consumers[0].Behind[0].Halted; halted == nil || halted.Offset != 6 || halted.Why != "gone" {
				t.Errorf("the status says that it has halted for %+v", halted)
			}

			ctx, stop := context.WithCancel(w.Ctx)
			defer stop()
			var process errgroup.Group
			parks := w.Deliverer(outside.Picky(6, test.why), deliverer.Hurried, change, func(cfg *deliverer.Config) { cfg.ParkRejected = true })
			process.Go(func() error { return parks.Run(ctx) })
			await.Equal(t, "the checkpoint", 10, w.Delivered)
			stop()
			w.Must(process.Wait())
			outside.Want(w, 1, 2, 3, 4, 5, 7, 8, 9, 10)
			w.WantCount("halted partitions", len(w.Status().Consumers[0].Behind), 0)
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

// TestAttemptsAreThoseOfOneRun ends a Run before an entry has had its attempts.
func TestAttemptsAreThoseOfOneRun(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(1)
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	tries := 0
	d := w.Deliverer(func(context.Context, string, []unilog.Entry) error {
		if tries++; tries == 2 {
			stop()
		}
		return errors.New("no such host")
	}, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.Attempts = 3 })
	w.Must(w.EndOf(ctx, d.Run))
	var rejected *unilog.RejectedError
	if err := w.EndOf(w.Ctx, d.Run); !errors.As(err, &rejected) {
		t.Errorf("it ends with %v, want that it gives up", err)
	}
	w.WantCount("attempts", tries, 2+3)
}

// TestAttemptsAreThoseOfOneEntry lets another instance deliver the first one.
func TestAttemptsAreThoseOfOneEntry(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(2)
	d := w.Deliverer(func(context.Context, string, []unilog.Entry) error {
		return errors.New("no such host")
	}, func(cfg *deliverer.Config) { cfg.Attempts = 3 })
	attempts := func(want int) {
		t.Helper()
		for i := range want {
			_, err := d.RunOnce(w.Ctx)
			var rejected *unilog.RejectedError
			if errors.As(err, &rejected) != (i == 2) {
				t.Fatalf("attempt %d ends with %v", i+1, err)
			}
		}
	}
	attempts(2)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 1`)
	attempts(3)
}

// TestDeliveryThatHangs has a call that ignores its context. Nothing waits for it but
// its own partition, and that does not call again meanwhile.
func TestDeliveryThatHangs(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(3)
	var outside world.Arrivals
	enough, calls := make(chan struct{}), make(chan struct{}, 10)
	d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
		if !world.Happened(enough) {
			calls <- struct{}{}
			<-enough
		}
		return outside.Deliver(ctx, logID, entries)
	}, func(cfg *deliverer.Config) { cfg.Timeout = time.Millisecond }, deliverer.Hurried)
	run := func() (stop context.CancelFunc, ended chan error) {
		ctx, stop := context.WithCancel(w.Ctx)
		ended = make(chan error, 1)
		go func() { ended <- d.Run(ctx) }()
		return stop, ended
	}
	stop, ended := run()
	await.True(t, "that it is not ready", func() bool {
		err := d.Ready()
		return err != nil && strings.Contains(err.Error(), "the delivery does not return")
	})
	stop()
	w.Must(await.Receive(t, "Run to end", ended))
	if n, err := d.RunOnce(w.Ctx); n != 0 || err == nil {
		t.Errorf("RunOnce delivers %d and says %v", n, err)
	}
	w.WantCount("calls", len(calls), 1)

	stop, ended = run()
	close(enough)
	await.Equal(t, "the checkpoint", 3, w.Delivered)
	w.AwaitReady(d.Ready)
	stop()
	w.Must(await.Receive(t, "Run to end", ended))
	// What came late counts as not arrived. So may more, if its call stood still for a while.
	outside.WantAll(w, 0, 3)
	if got := outside.Offsets(0); got[1] != 1 {
		t.Errorf("arrived: %v, want the first one twice", got)
	}
}

// TestRunEndsWhileADeliveryHangs stops it within a call that has all the time.
func TestRunEndsWhileADeliveryHangs(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(1)
	enough := make(chan struct{})
	defer close(enough)
	ctx, stop := context.WithCancel(w.Ctx)
	d := w.Deliverer(func(context.Context, string, []unilog.Entry) error {
		stop()
		<-enough
		return nil
	}, func(cfg *deliverer.Config) { cfg.Timeout = 10 * await.Patience })
	w.Must(w.EndOf(ctx, d.Run))
	w.WantCount("checkpoint", int(w.Delivered()), 0)
}

// TestDelivererThatCannotReadTheLog is alive, not ready, and says why.
func TestDelivererThatCannotReadTheLog(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(1)
	var outside world.Arrivals
	w.WantCount("delivered", w.Repeat(w.Deliverer(outside.Deliver).RunOnce), 1)
	w.Memory.Intercept(func(context.Context, logtest.Call, func(context.Context) error) error { return errors.New("deaf") })
	alive := func() bool { return world.Query[bool](w, `SELECT updated_at > 'epoch' FROM unilog.checkpoints`) }
	w.Exec(`UPDATE unilog.checkpoints SET updated_at = 'epoch'`)
	d := w.Deliverer(outside.Deliver)
	if n, err := d.RunOnce(w.Ctx); n != 0 || err == nil {
		t.Errorf("RunOnce delivers %d and says %v", n, err)
	}
	if !alive() {
		t.Error("RunOnce does not show that it is alive")
	}
	w.WantReady(d.Ready, "read the log's head: deaf")
	w.Exec(`UPDATE unilog.checkpoints SET updated_at = 'epoch'`)
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	await.True(t, "the deliverer to show that it is alive", alive)
	w.WantReady(d.Ready, "read the log's head: deaf")
	w.Memory.Intercept(nil)
	w.Publish(1)
	await.Equal(t, "the checkpoint", 2, w.Delivered)
	stop()
	w.Must(await.Receive(t, "Run to end", ended))
}
