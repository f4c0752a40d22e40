package deliverer_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
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
	if logID := world.Query[string](w, `SELECT log_id::text FROM unilog.log`); len(outside.LogIDs) != 1 || !outside.LogIDs[logID] {
		t.Errorf("delivered as of the logs %v, want %s", outside.LogIDs, logID)
	}
}

func TestDelivererConfig(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	var outside world.Arrivals
	for field, break_ := range map[string]func(c *deliverer.Config){
		"Name":           func(c *deliverer.Config) { c.Name = "" },
		"Name must":      func(c *deliverer.Config) { c.Name = "\x00" },
		"Log":            func(c *deliverer.Config) { c.Log = nil },
		"Deliver":        func(c *deliverer.Config) { c.Deliver = nil },
		"Checkpoints":    func(c *deliverer.Config) { c.Checkpoints = nil },
		"Only[0].Object": func(c *deliverer.Config) { c.Only = []unilog.Kind{{Action: "create"}} },
		"Only[1].Object": func(c *deliverer.Config) { c.Only = []unilog.Kind{{Object: "a"}, {Object: unilog.ReservedObject}} },
		"SaveEvery":      func(c *deliverer.Config) { c.SaveEvery = -1 },
		"BatchRecords":   func(c *deliverer.Config) { c.BatchRecords = -1 },
		"Timeout":        func(c *deliverer.Config) { c.Timeout = -1 },
		"Attempts":       func(c *deliverer.Config) { c.Attempts = -1 },
		"ParkRejected": func(c *deliverer.Config) {
			c.ParkRejected, c.Checkpoints = true, new(deliverer.FileCheckpoints)
		},
	} {
		cfg := deliverer.Config{Name: "hook", Log: w.Log, Deliver: outside.Deliver, Checkpoints: deliverer.PostgresCheckpoints(w.DB)}
		break_(&cfg)
		if _, err := deliverer.New(cfg); err == nil || !strings.Contains(err.Error(), "deliverer: Config."+field+" ") {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// TestDelivererReadsAllPartitions gives a log more partitions while it is read,
// and then another process the file.
func TestDelivererReadsAllPartitions(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	append_ := func(partition, partitions int, offsets ...int64) {
		w.Helper()
		term := unilog.Term{Partition: partition, Partitions: partitions, LogID: "three", Epoch: 1}
		_, err := w.Log.Claim(w.Ctx, term)
		w.Must(err)
		for _, offset := range offsets {
			_, err := w.Log.Append(w.Ctx, term, []unilog.Entry{{Record: world.Record("1"), Partition: partition, Offset: offset}})
			w.Must(err)
		}
	}
	var outside world.Arrivals
	path := filepath.Join(t.TempDir(), "checkpoints")
	run := func(arrived int) {
		w.Helper()
		file := openFile(t, path)
		ctx, stop := context.WithCancel(w.Ctx)
		defer stop()
		d := w.Deliverer(outside.Deliver, deliverer.Hurried, func(cfg *deliverer.Config) { cfg.Checkpoints, cfg.Archive = file, nil })
		var process errgroup.Group
		process.Go(func() error { return d.Run(ctx) })
		await.Equal(t, "what arrived", 3, outside.Count)
		for partition := range 3 {
			append_(partition, 3, 4, 5)
		}
		await.Equal(t, "what arrived", arrived, outside.Count)
		stop()
		w.Must(process.Wait())
		w.Must(file.Close())
	}
	append_(1, 1, 1, 2, 3)
	append_(2, 1, 1, 2, 3)
	append_(0, 1, 1, 2, 3)
	run(15)
	for partition := range 3 {
		outside.WantAll(w, partition, 5)
	}
	w.Wipe()
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
	w.LoseArchive(0, 10)
	w.Command("XTRIM", w.Stream, "MINID", "12")
	if _, err := d.RunOnce(w.Ctx); !errors.As(err, &gap) || gap.From != 10 || gap.To != 10 || !gap.Archive {
		t.Errorf("with an archive that has lost some: %v", err)
	}
	outside.Want(w, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 10`) // as another instance that had it
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
