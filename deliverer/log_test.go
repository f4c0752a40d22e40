package deliverer_test

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
)

// repeating gives entries again that were read already, and nothing else with
// them, until it is asked for what follows the last of them by its position.
type repeating struct{ unilog.Log }

func (r repeating) Read(ctx context.Context, partition int, after unilog.Cursor, limit int, wait time.Duration) ([]unilog.Entry, error) {
	if after.Offset == 0 || after.Position == "given twice" {
		return r.Log.Read(ctx, partition, after, limit, wait)
	}
	entries, err := r.Log.Read(ctx, partition, unilog.Cursor{}, int(after.Offset), wait)
	for i := range entries {
		entries[i].Position = "given twice"
	}
	return entries, err
}

// TestDelivererPassesOverDuplicates has no archive to go on from.
func TestDelivererPassesOverDuplicates(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Publish(3)
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver, func(cfg *deliverer.Config) {
		cfg.Log, cfg.Archive, cfg.BatchRecords = repeating{w.Log}, nil, 3
	})
	w.Repeat(d.RunOnce)
	w.Publish(3)
	for range 2 { // the first one meets nothing but duplicates
		_, err := d.RunOnce(w.Ctx)
		w.Must(err)
	}
	outside.Want(w, 1, 2, 3, 4, 5, 6)
}

// TestDelivererForgetsWhatAFailureOutlives replaces the log, with the same offsets,
// while a delivery of the first entry fails.
func TestDelivererForgetsWhatAFailureOutlives(t *testing.T) {
	t.Parallel()
	for name, logID := range map[string]string{
		"by another database's":        "another",
		"by that of a restored source": "ours",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := logtest.NewMemory()
			write := func(logID string, amounts ...string) {
				t.Helper()
				log.Wipe()
				term := unilog.Term{Partitions: 1, LogID: logID, Epoch: 1}
				_, err := log.Claim(t.Context(), term)
				for i, amount := range amounts {
					if err == nil {
						_, err = log.Append(t.Context(), term, []unilog.Entry{{Record: world.Record(amount), Offset: int64(i + 1)}})
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			file := openFile(t, filepath.Join(t.TempDir(), "checkpoints"))
			defer file.Close()
			var arrived []string
			up := false
			d, err := deliverer.New(deliverer.Config{
				Name: "hook", Log: log, Checkpoints: file,
				Deliver: func(_ context.Context, logID string, entries []unilog.Entry) error {
					if !up {
						return errors.New("no such host")
					}
					var data struct{ Amount json.Number }
					err := json.Unmarshal(entries[0].Data, &data)
					arrived = append(arrived, logID+" "+data.Amount.String())
					return err
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			write("ours", "1", "2")
			if _, err := d.RunOnce(t.Context()); err == nil {
				t.Fatal("the delivery did not fail")
			}
			write(logID, "10", "20")
			up = true
			for range 2 {
				if _, err := d.RunOnce(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			if len(arrived) != 2 || arrived[0] != logID+" 10" || arrived[1] != logID+" 20" {
				t.Errorf("arrived: %q", arrived)
			}
		})
	}
}

// TestDelivererLeavesAnUnclaimedLogAlone takes the claim from a log before it is read,
// and while it is read.
func TestDelivererLeavesAnUnclaimedLogAlone(t *testing.T) {
	t.Parallel()
	log := logtest.NewMemory()
	file := openFile(t, filepath.Join(t.TempDir(), "checkpoints"))
	defer file.Close()
	var outside world.Arrivals
	d, err := deliverer.New(deliverer.Config{Name: "hook", Log: log, Checkpoints: file, Deliver: outside.Deliver})
	if err != nil {
		t.Fatal(err)
	}
	runOnce := func(want int, says string) {
		t.Helper()
		n, err := d.RunOnce(t.Context())
		if n != want || (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
			t.Fatalf("it delivers %d and says %v, want %d and %q", n, err, want, says)
		}
	}
	const unclaimed = "no streamer has claimed the log yet"
	log.Put(unilog.Entry{Record: world.Record("1"), Offset: 1})
	runOnce(0, unclaimed)
	log.SetLogID(0, "ours")
	runOnce(1, "")
	log.Put(unilog.Entry{Record: world.Record("2"), Offset: 2})
	log.SetLogID(0, "")
	runOnce(0, unclaimed)
	log.SetLogID(0, "ours")
	runOnce(1, "")
}

func TestDelivererOfAnotherLog(t *testing.T) {
	t.Parallel()
	w, other := world.SetupOnRedis(t), world.SetupOnRedis(t)
	w.Publish(3)
	other.Exec(`UPDATE unilog.log SET log_id = gen_random_uuid()`) // the tests' databases are copies
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
