package deliverer_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

// counting counts what is saved.
type counting struct {
	deliverer.Checkpoints
	saves *atomic.Int64
}

func (c counting) Save(ctx context.Context, key deliverer.CheckpointKey, from, to unilog.Cursor) error {
	c.saves.Add(1)
	return c.Checkpoints.Save(ctx, key, from, to)
}

// mixed is a log in which every so many records there is an order.
func mixed(w *world.World, records, every int64) *logtest.Memory {
	log := logtest.NewMemory()
	_, err := log.Claim(w.Ctx, unilog.Term{Partitions: 1, LogID: "ours", Epoch: 1})
	w.Must(err)
	for offset := int64(1); offset <= records; offset++ {
		e := unilog.Entry{Record: world.Record("1"), Offset: offset}
		if offset%every == 0 {
			e.Object, e.Action = "order", "create"
		}
		log.Put(e)
	}
	return log
}

func onlyOrders(log unilog.Log) func(*deliverer.Config) {
	return func(cfg *deliverer.Config) {
		cfg.Log, cfg.Archive, cfg.Only = log, nil, []unilog.Kind{{Object: "order", Action: "create"}}
	}
}

// TestDelivererOfWhatIsAskedFor passes over the others without a call, and without a
// checkpoint for each.
func TestDelivererOfWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	log := mixed(w, 1050, 100)
	log.Put(unilog.Entry{Offset: 1051, Record: unilog.Record{Object: unilog.ReservedObject, Action: "repartition", Data: []byte(`{"partitions":1,"offsets":[1051]}`)}})
	order := unilog.Entry{Record: world.Record("1"), Offset: 1052}
	order.Object, order.Action = "order", "delete"
	log.Put(order)
	log.Put(unilog.Entry{Offset: 1053, Record: unilog.Record{Object: unilog.ReservedObject, Action: "later", Data: []byte(`{}`)}})
	var outside world.Arrivals
	var saves atomic.Int64
	var passed atomic.Int64
	d := w.Deliverer(outside.Deliver, onlyOrders(log), deliverer.SavingSeldom, func(cfg *deliverer.Config) {
		cfg.Observer = deliverer.Observer{}.And(deliverer.Observer{PassedOver: func(n int64) { passed.Add(n) }})
		cfg.Checkpoints = counting{cfg.Checkpoints, &saves}
	})
	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	var process errgroup.Group
	process.Go(func() error { return d.Run(ctx) })
	await.Equal(t, "the checkpoint", 1053, w.Delivered)
	stop()
	w.Must(process.Wait())
	outside.Want(w, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1000, 1053)
	w.WantCount("passed over", int(passed.Load()), 1053-10-2)
	if n := saves.Load(); n > 13 { // the orders, what precedes the barrier, it, and the last one
		t.Errorf("%d checkpoints were saved for 10 deliveries", n)
	}
}

// TestGapAfterWhatNobodyAsksFor halts all the same, with what was passed over saved.
func TestGapAfterWhatNobodyAsksFor(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	log := mixed(w, 5, 100)
	log.Put(unilog.Entry{Record: world.Record("1"), Offset: 8})
	var outside world.Arrivals
	var gap *unilog.GapError
	if err := w.EndOf(w.Ctx, w.Deliverer(outside.Deliver, onlyOrders(log), deliverer.SavingSeldom).Run); !errors.As(err, &gap) || gap.From != 6 || gap.To != 7 {
		t.Errorf("it ends with %v", err)
	}
	w.WantCount("checkpoint", int(w.Delivered()), 5)
}

// TestDestinationIsBlamedForWhatIsAskedFor has what is rejected lie far apart.
func TestDestinationIsBlamedForWhatIsAskedFor(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	refuse := func(context.Context, string, []unilog.Entry) error {
		return deliverer.Reject(errors.New("who are you?"))
	}
	var passed atomic.Int64
	d := w.Deliverer(refuse, onlyOrders(mixed(w, 300, 10)), func(cfg *deliverer.Config) {
		cfg.ParkRejected, cfg.Observer.PassedOver = true, func(n int64) { passed.Add(n) }
	})
	var rejected *unilog.RejectedError
	for range 2 {
		if err := w.EndOf(w.Ctx, d.Run); !errors.As(err, &rejected) || rejected.Offset != 210 {
			t.Errorf("it ends with %v", err)
		}
	}
	w.WantCount("checkpoint", int(w.Delivered()), 200)
	w.WantCount("passed over", int(passed.Load()), 180)
}

// TestDestinationIsBlamedAfterASeek takes a deliverer back to before what has arrived.
func TestDestinationIsBlamedAfterASeek(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	refuses := false
	ctx, stop := context.WithCancel(w.Ctx)
	d := w.Deliverer(func(context.Context, string, []unilog.Entry) error {
		if refuses {
			return deliverer.Reject(errors.New("who are you?"))
		}
		return nil
	}, onlyOrders(mixed(w, 300, 10)), func(cfg *deliverer.Config) {
		cfg.ParkRejected = true
		cfg.Observer.Parked = func(e unilog.Entry, _ error) {
			if e.Offset > 200 {
				stop()
			}
		}
	})
	w.Repeat(d.RunOnce)
	w.WantCount("checkpoint", int(w.Delivered()), 300)
	_, err := in.Seek(w.Ctx, w.DB, "hook", consumer.Target{Start: unilog.Start{Offset: 1}})
	w.Must(err)
	refuses = true
	var rejected *unilog.RejectedError
	if err := w.EndOf(ctx, d.Run); !errors.As(err, &rejected) || rejected.Offset != 210 {
		t.Errorf("it ends with %v", err)
	}
}

// TestRequeuedIsDeliveredOnlyIfAskedFor requeues records of a kind that the deliverer no
// longer asks for.
func TestRequeuedIsDeliveredOnlyIfAskedFor(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	log := mixed(w, 2, 2)
	refuse := func(context.Context, string, []unilog.Entry) error { return deliverer.Reject(errors.New("no")) }
	w.Repeat(w.Deliverer(refuse, func(cfg *deliverer.Config) { cfg.Log, cfg.Archive, cfg.ParkRejected = log, nil, true }).RunOnce)
	for offset := range int64(2) {
		w.Must(in.Requeue(w.Ctx, w.DB, "hook", 0, offset+1))
	}
	var outside world.Arrivals
	w.Repeat(w.Deliverer(outside.Deliver, onlyOrders(log)).RunOnce)
	outside.Want(w, 2)
	w.WantCount("dead letters that are left", world.Query[int](w, `
		SELECT count(*) FROM unilog.dead_letters WHERE "offset" = 1 AND requeued_at IS NULL AND error LIKE 'Config.Only%'`), 1)
}

// TestCheckpointIsSavedNowAndThen sees what comes again, and what does not.
func TestCheckpointIsSavedNowAndThen(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	log := mixed(w, 100, 100)
	var outside world.Arrivals
	var saves atomic.Int64
	hangs, enough := make(chan struct{}), make(chan struct{})
	begin := func(deliver deliverer.Delivery) (stop context.CancelFunc, ended func()) {
		d := w.Deliverer(deliver, deliverer.Hurried, deliverer.SavingSeldom, func(cfg *deliverer.Config) {
			cfg.Log, cfg.Archive, cfg.SaveEvery = log, nil, 10
			cfg.Checkpoints = counting{cfg.Checkpoints, &saves}
		})
		ctx, cancel := context.WithCancel(w.Ctx)
		var process errgroup.Group
		process.Go(func() error { return d.Run(ctx) })
		return cancel, func() { w.Must(process.Wait()) }
	}
	stop, ended := begin(func(ctx context.Context, logID string, entries []unilog.Entry) error {
		if entries[0].Offset == 16 {
			close(hangs)
			<-enough
		}
		return outside.Deliver(ctx, logID, entries)
	})
	await.Receive(t, "the call that hangs", hangs)
	w.WantCount("checkpoint", int(w.Delivered()), 10) // another process would go on from here
	var failures int
	begun := saves.Load()
	stop()
	close(enough)
	ended()
	w.WantCount("checkpoint after the end", int(w.Delivered()), 16)
	stop, ended = begin(func(ctx context.Context, logID string, entries []unilog.Entry) error {
		if entries[0].Offset == 28 && failures < 3 {
			failures++
			return errors.New("no such host")
		}
		return outside.Deliver(ctx, logID, entries)
	})
	await.Equal(t, "the checkpoint", 100, w.Delivered)
	stop()
	ended()
	w.WantCount("arrived", outside.Count(), 100) // nothing came again
	outside.WantAll(w, 0, 100)
	if n := saves.Load() - begun; n > 15 {
		t.Errorf("%d checkpoints were saved for 84 deliveries", n)
	}
}

// TestDestinationThatWantsNoMore parks nothing.
func TestDestinationThatWantsNoMore(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(3)
	var outside world.Arrivals
	d := w.Deliverer(outside.Picky(2, deliverer.Halt(errors.New("gone"))), func(cfg *deliverer.Config) {
		cfg.ParkRejected, cfg.Attempts, cfg.SaveEvery = true, 1, 10
	})
	var rejected *unilog.RejectedError
	if err := w.EndOf(w.Ctx, d.Run); !errors.As(err, &rejected) || rejected.Offset != 2 || rejected.Err.Error() != "gone" {
		t.Errorf("it ends with %v", err)
	}
	w.WantCount("checkpoint", int(w.Delivered()), 1)
}

// TestUnavailabilityIsNoAttempt lets nothing be parked for what is no entry's fault.
func TestUnavailabilityIsNoAttempt(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(1)
	tries := 0
	d := w.Deliverer(func(context.Context, string, []unilog.Entry) error {
		if tries++; tries < 5 {
			return deliverer.RetryAfter(deliverer.Unavailable(errors.New("no such host")), 0)
		}
		return errors.New("boom")
	}, func(cfg *deliverer.Config) { cfg.ParkRejected, cfg.Attempts = true, 2 })
	for range 5 {
		if n, err := d.RunOnce(w.Ctx); n != 0 || err == nil {
			t.Fatalf("attempt %d: %d, %v", tries, n, err)
		}
	}
	if n, err := d.RunOnce(w.Ctx); n != 1 || err != nil {
		t.Fatalf("the second that counts: %d, %v", n, err)
	}
	letters, err := consumer.DeadLetters(w.Ctx, w.DB, "hook")
	w.Must(err)
	w.WantCount("parked", len(letters), 1)
}
