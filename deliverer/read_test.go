package deliverer_test

import (
	"context"
	"errors"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

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
