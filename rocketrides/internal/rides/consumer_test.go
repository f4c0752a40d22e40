package rides

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
)

func rideEntries(distances ...string) []unilog.Entry {
	entries := make([]unilog.Entry, len(distances))
	for i, d := range distances {
		entries[i] = unilog.Entry{
			Offset: int64(i + 1),
			Record: unilog.Record{Action: recordAction, Object: recordObject, Data: json.RawMessage(`{"id": 1, "distance": ` + d + `}`)},
		}
	}
	return entries
}

// consume applies entries in a transaction, and reports them after it.
func consume(t *testing.T, c *Consumer, entries []unilog.Entry) error {
	t.Helper()
	err := pgx.BeginFunc(t.Context(), newDatabase(t), func(tx pgx.Tx) error {
		return c.Handle(t.Context(), tx, entries)
	})
	if err == nil {
		c.Report(t.Context(), entries)
	}
	return err
}

func newConsumer() (*Consumer, *buffer) {
	log := new(buffer)
	return &Consumer{Name: "sum", Logger: slog.New(slog.NewTextHandler(log, nil))}, log
}

func TestConsumerReportsEachRecordWithItsTotal(t *testing.T) {
	t.Parallel()
	c, log := newConsumer()
	if err := consume(t, c, rideEntries("0.1", "1000000000", "0.000000000000000000000000000001", "2.50")); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"offset=1 distance=0.1m total_distance=0.1",
		"offset=2 distance=1000000000m total_distance=1000000000.1",
		"offset=3 distance=0.000000000000000000000000000001m total_distance=1000000000.100000000000000000000000000001m",
		"offset=4 distance=2.50m total_distance=1000000002.600000000000000000000000000001m",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, log.String())
		}
	}
}

// TestConsumerOfPartitions applies and reports two partitions at the same time.
func TestConsumerOfPartitions(t *testing.T) {
	t.Parallel()
	c, log := newConsumer()
	first, second := rideEntries("1"), rideEntries("20", "300")
	second[0].Partition, second[1].Partition = 1, 1
	db := newDatabase(t)
	var both errgroup.Group
	for _, entries := range [][]unilog.Entry{first, second} {
		both.Go(func() error {
			return pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error { return c.Handle(t.Context(), tx, entries) })
		})
	}
	if err := both.Wait(); err != nil {
		t.Fatal(err)
	}
	both.Go(func() error { c.Report(t.Context(), first); return nil })
	both.Go(func() error { c.Report(t.Context(), second); return nil })
	_ = both.Wait()
	for _, want := range []string{
		"partition=0 offset=1 distance=1m total_distance=1m",
		"partition=1 offset=1 distance=20m total_distance=20m",
		"partition=1 offset=2 distance=300m total_distance=320m",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in\n%s", want, log.String())
		}
	}
}

func TestConsumerReportsLargeBatchesInALine(t *testing.T) {
	t.Parallel()
	c, log := newConsumer()
	distances := make([]string, 100)
	for i := range distances {
		distances[i] = strconv.Itoa(i)
	}
	if err := consume(t, c, rideEntries(distances...)); err != nil {
		t.Fatal(err)
	}
	if out := log.String(); strings.Count(out, "\n") != 1 || !strings.Contains(out, "records=100 first=1 last=100 total_distance=4950m") {
		t.Errorf("it reports\n%s", out)
	}
}

func TestConsumerIgnoresWhatIsNoNewRide(t *testing.T) {
	t.Parallel()
	c, log := newConsumer()
	entries := rideEntries("1", "2", "4")
	entries[0].Action = "cancel"
	entries[1].Object = "refund"
	if err := consume(t, c, entries); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "offset=3 distance=4m total_distance=4m") {
		t.Errorf("it reports\n%s", log.String())
	}
}

func TestConsumerRejectsRidesThatAreNone(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{
		"no distance":   `{"id": 1}`,
		"a null":        `{"id": 1, "distance": null}`,
		"not an object": `[1]`,
		"not a number":  `{"id": 1, "distance": "far"}`,
		"an object":     `{"id": 1, "distance": {"m": 1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, log := newConsumer()
			entries := rideEntries("1")
			entries[0].Data = json.RawMessage(data)
			if err := consume(t, c, entries); err == nil || log.String() != "" {
				t.Errorf("it took %s and said %q", data, log.String())
			}
		})
	}
}

// A total without a checkpoint would get everything a second time.
func TestTotalWithoutACheckpoint(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if err := Register(t.Context(), pool, "", "c"); err != nil {
		t.Fatal(err)
	}
	if _, err := pool.Exec(t.Context(), `UPDATE consumer_states SET total_distance = 5`); err != nil {
		t.Fatal(err)
	}
	if err := Register(t.Context(), pool, "", "c"); err == nil || !strings.Contains(err.Error(), "c has a total and no checkpoint") {
		t.Errorf("Register returned %v", err)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	var p pace
	second := time.Unix(1_700_000_000, 0)
	if !p.allow(pacePerSecond, second) || p.allow(1, second.Add(time.Second-1)) {
		t.Error("it does not allow just as many as a person reads")
	}
	if !p.allow(1, second.Add(time.Second)) {
		t.Error("it allows none in the next second")
	}
}
