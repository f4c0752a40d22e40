package deliverer_test

import (
	"bytes"
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/world"
)

var in consumer.In

// TestDelivererIsSteered seeks, pauses, and has a record skipped and delivered all the same,
// while it runs.
func TestDelivererIsSteered(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(3)
	outside := new(world.Arrivals)
	bad := errors.New("no such customer")
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
		if entries[0].Offset == 5 && outside.Count() < 7 {
			return deliverer.Reject(bad)
		}
		return outside.Deliver(ctx, logID, entries)
	}, func(cfg *deliverer.Config) { cfg.RetryHalted = time.Hour })
	go func() { ended <- d.Run(ctx) }()
	arrive := func(n int) {
		t.Helper()
		world.AwaitEqual(w, "the number of arrivals", n, outside.Count)
	}
	arrive(3)
	_, err := in.Seek(w.Ctx, w.DB, "hook", consumer.Target{Start: unilog.Start{Offset: 2}, Archive: w.DB})
	w.Must(err)
	arrive(5)
	w.AwaitTrue("the checkpoint to be saved", `SELECT "offset" = 3 FROM unilog.checkpoints`)

	w.Must(in.Pause(w.Ctx, w.DB, "hook", ""))
	if _, err := w.Deliverer(outside.Deliver).RunOnce(w.Ctx); !errors.As(err, new(*unilog.PausedError)) {
		t.Errorf("paused, RunOnce says %v", err)
	}
	w.AwaitReady(d.Ready)
	w.Publish(3)
	w.Must(in.Resume(w.Ctx, w.DB, "hook", ""))
	arrive(6) // and then it halts
	w.Await("it to halt", func() string {
		if err := d.Ready(); !errors.As(err, new(*unilog.RejectedError)) {
			return "it says otherwise"
		}
		return ""
	})
	found, err := archive.Read(w.Ctx, w.DB, "", 0, 4, 5, 1)
	w.Must(err)
	w.Must(in.Skip(w.Ctx, w.DB, "hook", found[0], "he is gone"))
	arrive(7)
	w.Must(in.Requeue(w.Ctx, w.DB, "hook", 0, 5))
	arrive(8)
	w.AwaitTrue("it to be no dead letter", `SELECT NOT EXISTS (SELECT FROM unilog.dead_letters)`)
	stop()
	w.Must(world.Receive(w, "the deliverer to end", ended))
	outside.Want(w, 1, 2, 3, 2, 3, 4, 6, 5)
}

// TestDelivererKeepsWhatFailsAgain requeues a record that cannot be delivered. It holds up
// nothing.
func TestDelivererKeepsWhatFailsAgain(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitBodies("1")
	w.Publish(1)
	outside := new(world.Arrivals)
	d := w.Deliverer(outside.Picky(1, errors.New("down")), func(cfg *deliverer.Config) { cfg.ParkRejected, cfg.Attempts = true, 1 })
	w.Repeat(d.RunOnce)
	w.Must(in.Requeue(w.Ctx, w.DB, "hook", 0, 1))
	w.Publish(1)
	w.Repeat(w.Deliverer(outside.Picky(1, errors.New("down again"))).RunOnce)
	outside.Want(w, 2, 3)
	w.WantCount("dead letters that failed again", world.Query[int](w, `SELECT count(*) FROM unilog.dead_letters WHERE error = 'down again' AND requeued_at IS NULL`), 1)
	w.Must(in.Requeue(w.Ctx, w.DB, "hook", 0, 1))
	w.WantCount("delivered", w.Repeat(w.Deliverer(outside.Deliver).RunOnce), 1)
	outside.Want(w, 2, 3, 1)
	if got, want := outside.Entries[2].Record, world.BodyRecord("1"); !bytes.Equal(got.Body, want.Body) || got.ContentType != want.ContentType {
		t.Errorf("it is delivered as %+v", got)
	}
}

// TestRequeuedWaitsForTheDestination has a destination that is away when a record is requeued.
func TestRequeuedWaitsForTheDestination(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(1)
	outside := new(world.Arrivals)
	w.Repeat(w.Deliverer(outside.Picky(1, deliverer.Reject(errors.New("bad"))), func(cfg *deliverer.Config) { cfg.ParkRejected = true }).RunOnce)
	w.Must(in.Requeue(w.Ctx, w.DB, "hook", 0, 1))
	calls := 0
	d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
		switch calls++; calls {
		case 1:
			return deliverer.Unavailable(errors.New("no such host"))
		case 2:
			return deliverer.Halt(errors.New("moved"))
		}
		return outside.Deliver(ctx, logID, entries)
	}, deliverer.Hurried)
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	w.AwaitTrue("it to be delivered", `SELECT NOT EXISTS (SELECT FROM unilog.dead_letters)`)
	stop()
	w.Must(world.Receive(w, "the deliverer to end", ended))
	outside.Want(w, 1)
}

// TestPauseEndsWhatIsRequeued pauses a deliverer that has many requeued records to deliver.
func TestPauseEndsWhatIsRequeued(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(9)
	park := w.Deliverer(func(context.Context, string, []unilog.Entry) error {
		return deliverer.Reject(errors.New("no such customer"))
	}, func(cfg *deliverer.Config) { cfg.ParkRejected = true })
	w.Repeat(park.RunOnce)
	for offset := range int64(9) {
		w.Must(in.Requeue(w.Ctx, w.DB, "hook", 0, offset+1))
	}
	w.Exec(`DELETE FROM unilog.interventions`) // the next one is the only one to be heeded
	outside := new(world.Arrivals)
	began, goOn := make(chan struct{}, 9), make(chan struct{})
	d := w.Deliverer(func(ctx context.Context, logID string, entries []unilog.Entry) error {
		began <- struct{}{}
		<-goOn
		return outside.Deliver(ctx, logID, entries)
	})
	ctx, stop := context.WithCancel(w.Ctx)
	ended := make(chan error, 1)
	go func() { ended <- d.Run(ctx) }()
	world.Receive(w, "the first call", began)
	turn := d.Turn()
	w.Must(in.Pause(w.Ctx, w.DB, "hook", ""))
	world.Receive(w, "the pause to be heeded", turn)
	close(goOn)
	world.AwaitEqual(w, "whether it waits", true, d.WaitsPaused)
	outside.Want(w, 1)
	w.Must(in.Resume(w.Ctx, w.DB, "hook", ""))
	w.AwaitTrue("the others to be delivered", `SELECT count(*) = 0 FROM unilog.dead_letters`)
	stop()
	w.Must(world.Receive(w, "the deliverer to end", ended))
	outside.Want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9)
}

// TestDelivererBeginsWhereItIsTold begins at an offset and at the head, by each kind of
// checkpoints.
func TestDelivererBeginsWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(3)
	file, err := deliverer.OpenFileCheckpoints(filepath.Join(t.TempDir(), "checkpoints"))
	w.Must(err)
	t.Cleanup(func() { w.Must(file.Close()) })
	for name, change := range map[string]func(*deliverer.Config){
		"head": func(cfg *deliverer.Config) { cfg.Start.Head = true },
		"the log's head": func(cfg *deliverer.Config) {
			cfg.Start.Head, cfg.Checkpoints, cfg.Archive = true, file, nil
		},
		"offset": func(cfg *deliverer.Config) { cfg.Start.Offset = 4 },
	} {
		outside := new(world.Arrivals)
		d := w.Deliverer(outside.Deliver, change, func(cfg *deliverer.Config) { cfg.Name = name })
		w.Repeat(d.RunOnce)
		w.Publish(1)
		w.Repeat(d.RunOnce)
		n := world.Query[int64](w, `SELECT next_offset - 1 FROM unilog.partitions`)
		want := []int64{n}
		for name == "offset" && want[0] > 4 {
			want = append([]int64{want[0] - 1}, want...)
		}
		outside.Want(w, want...)
	}
	w.LoseArchive(0, 1)
	d := w.Deliverer(new(world.Arrivals).Deliver, func(cfg *deliverer.Config) { cfg.Name, cfg.Start.Offset = "late", 1 })
	if err := w.EndOf(w.Ctx, d.Run); !errors.As(err, new(*unilog.NotArchivedError)) {
		t.Errorf("Run says %v", err)
	}
	for name, change := range map[string]func(*deliverer.Config){
		"two starts": func(cfg *deliverer.Config) { cfg.Start = unilog.Start{Head: true, Offset: 1} },
		"a time, but no archive": func(cfg *deliverer.Config) {
			cfg.Start.Time, cfg.Archive = time.Now(), nil
		},
		"checkpoints of its own": func(cfg *deliverer.Config) {
			cfg.Start.Head = true
			cfg.Checkpoints = struct{ deliverer.Checkpoints }{cfg.Checkpoints}
		},
	} {
		cfg := deliverer.Config{Name: "hook", Log: w.Log, Deliver: new(world.Arrivals).Deliver, Checkpoints: deliverer.PostgresCheckpoints(w.DB), Archive: w.DB}
		change(&cfg)
		if _, err := deliverer.New(cfg); err == nil {
			t.Errorf("%s: New takes it", name)
		}
	}
}
