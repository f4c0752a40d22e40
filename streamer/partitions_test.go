package streamer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// wantKeys sees that the partitions of the log hold the records of each key in
// their order, from 1 to last, each in the key's partition.
func wantKeys(w *world.World, partitions, last int, keys ...string) {
	w.Helper()
	seen := map[string]int{}
	for p := range partitions {
		for i, e := range w.ReadPartition(p) {
			if e.Offset != int64(i+1) {
				w.Errorf("entry number %d of partition %d has offset %d", i+1, p, e.Offset)
			}
			if want := unilog.PartitionOf(e.Key, partitions); p != want {
				w.Errorf("key %s is in partition %d, want %d", e.Key, p, want)
			}
			var data struct{ N int }
			w.Must(json.Unmarshal(e.Data, &data))
			if seen[e.Key]++; data.N != seen[e.Key] {
				w.Errorf("record %d of key %s comes as number %d", data.N, e.Key, seen[e.Key])
			}
		}
	}
	for _, key := range keys {
		w.WantCount("records of key "+key, seen[key], last)
	}
	w.WantCount("keys", len(seen), len(keys))
}

func TestKeysKeepTheirOrderInPartitions(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(4, 1)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 50 })
	all := world.Keys(20)
	w.CommitKeyed(1, 10, all...)
	w.WantCount("published", w.Drain(s), 200)
	w.CommitKeyed(11, 20, all...)
	w.WantCount("published", w.Drain(s), 200)
	wantKeys(w, 4, 20, all...)
	for p := range 4 {
		head, err := w.Log.Head(w.Ctx, p)
		w.Must(err)
		w.WantCount("partitions that the log tells of", head.Partitions, 4)
	}
	w.WantCount("known as published", int(world.Query[int64](w, `SELECT sum(published_offset)::bigint FROM log_partitions`)), 400)
}

func TestRecordsWithoutAKeyAreSpread(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(4, 1)
	w.CommitMany(100)
	w.WantCount("published", w.Drain(w.Streamer()), 100)
	for p := range 4 {
		w.WantCount(fmt.Sprintf("records of partition %d", p), len(w.ReadPartition(p)), 25)
	}
}

// countedStreamer is a streamer with the number of partitions that it leads.
func countedStreamer(w *world.World, change ...func(*streamer.Config)) (*streamer.Streamer, *atomic.Int64) {
	w.Helper()
	leads := new(atomic.Int64)
	return w.Streamer(append(change, func(cfg *streamer.Config) {
		cfg.Observer.Leading = func(_ int, epoch int64) {
			if epoch > 0 {
				leads.Add(1)
			} else {
				leads.Add(-1)
			}
		}
	})...), leads
}

// TestStreamersShareThePartitions starts and stops streamers while records are
// staged.
func TestStreamersShareThePartitions(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	const partitions = 8
	w.Repartition(partitions, 1)
	all := world.Keys(30)
	awaitShares := func(want string, leads ...*atomic.Int64) {
		t.Helper()
		world.AwaitEqual(w, "the numbers of partitions that each leads", want, func() string {
			led := make([]int64, len(leads))
			for i, n := range leads {
				led[i] = n.Load()
			}
			slices.Sort(led)
			return fmt.Sprint(led)
		})
	}
	run := func() (*atomic.Int64, func()) {
		s, leads := countedStreamer(w)
		ctx, cancel := context.WithCancel(w.Ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		stop := func() { cancel(); w.Must(world.Receive(w, "the streamer to end", ended)) }
		t.Cleanup(cancel)
		return leads, stop
	}
	one, stopOne := run()
	w.CommitKeyed(1, 5, all...)
	awaitShares("[8]", one)
	w.AwaitPublished(150)
	two, stopTwo := run()
	awaitShares("[4 4]", one, two)
	w.CommitKeyed(6, 10, all...)
	w.AwaitPublished(300)
	three, stopThree := run()
	awaitShares("[2 3 3]", one, two, three)
	w.CommitKeyed(11, 15, all...)
	stopOne()
	awaitShares("[4 4]", two, three)
	w.CommitKeyed(16, 20, all...)
	w.AwaitPublished(600)
	stopTwo()
	awaitShares("[8]", three)
	w.CommitKeyed(21, 25, all...)
	w.AwaitPublished(750)
	stopThree()
	wantKeys(w, partitions, 25, all...)
}

// TestPartitionIsRebuilt loses one partition of the log.
func TestPartitionIsRebuilt(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(3, 1)
	all := world.Keys(12)
	s := w.Streamer()
	w.CommitKeyed(1, 10, all...)
	w.Drain(s)
	w.Command("DEL", w.Stream+":1", "{"+w.Stream+":1}:leader")
	w.CommitKeyed(11, 12, all...)
	w.Drain(s)
	wantKeys(w, 3, 12, all...)
}

// TestRepartitionWhileRecordsFlow changes the number of partitions under a
// streamer, and sees that each partition has its barrier.
func TestRepartitionWhileRecordsFlow(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	all := world.Keys(10)
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	var group errgroup.Group
	s := w.Streamer()
	group.Go(func() error { return s.Run(ctx) })
	steps := []int{1, 4, 2, 8, 1, 3}
	for i, partitions := range steps {
		if i == 1 {
			w.AwaitPublished(10 * len(all)) // without records there would be no barrier
		}
		if i > 0 {
			w.Repartition(partitions, steps[i-1])
		}
		w.CommitKeyed(10*i+1, 10*i+10, all...)
	}
	records := 10*len(all)*len(steps) + 4 + 4 + 8 + 8 + 8 // with the barriers
	w.AwaitPublished(records)
	cancel()
	w.Ended("the streamer", &group)

	// What comes between two barriers, each partition has of its own keys, in order.
	seen := map[string]int{}
	sections := map[int][][]unilog.Entry{}
	for p := range 8 {
		var section []unilog.Entry
		for _, e := range w.ReadPartition(p) {
			section = append(section, e)
			if e.Object == "unilog" {
				sections[p] = append(sections[p], section)
				section = nil
			}
		}
		sections[p] = append(sections[p], section)
	}
	for i, partitions := range steps {
		for _, p := range slices.Sorted(maps.Keys(sections)) {
			began := len(steps) - len(sections[p]) // sections before it was there
			if i < began {
				continue
			}
			for _, e := range sections[p][i-began] {
				if e.Object == "unilog" {
					var b struct {
						Partitions int
						Offsets    []int64
					}
					w.Must(json.Unmarshal(e.Data, &b))
					if b.Partitions != steps[i+1] || b.Offsets[p] != e.Offset {
						t.Errorf("partition %d: barrier %s at offset %d, after %d partitions", p, e.Data, e.Offset, partitions)
					}
					continue
				}
				if want := unilog.PartitionOf(e.Key, partitions); p != want {
					t.Errorf("step %d: key %s is in partition %d, want %d", i, e.Key, p, want)
				}
				var data struct{ N int }
				w.Must(json.Unmarshal(e.Data, &data))
				if seen[e.Key]++; data.N != seen[e.Key] {
					t.Errorf("step %d: record %d of key %s comes as number %d", i, data.N, e.Key, seen[e.Key])
				}
			}
		}
	}
	for _, key := range all {
		w.WantCount("records of key "+key, seen[key], 10*len(steps))
	}
}

func TestRepartitionChecksItsNumber(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	for _, n := range []int{0, -1, migration.MaxPartitions + 1} {
		if _, err := migration.Repartition(w.Ctx, w.DB, n); err == nil {
			t.Errorf("%d partitions: no error", n)
		}
	}
	w.Commit("1")
	w.Drain(w.Streamer())
	w.Repartition(1, 1) // nothing to do
	w.WantCount("records", world.Query[int](w, `SELECT count(*)::int FROM log_records`), 1)
}

// TestBarriersCannotBeStaged sees that nobody else writes what the log does.
func TestBarriersCannotBeStaged(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	tx := w.Begin()
	err := unilog.Stage(w.Ctx, tx, unilog.Record{Action: "repartition", Object: "unilog", Data: json.RawMessage(`{}`)})
	if !errors.Is(err, unilog.ErrReserved) {
		t.Errorf("staged: %v", err)
	}
	if _, err := tx.Exec(w.Ctx, `INSERT INTO staged_log_records (action, object, data) VALUES ('a', 'unilog', '{}')`); err == nil {
		t.Error("inserted")
	}
}

// TestLostStreamerIsReplaced loses sessions of two streamers at random.
func TestLostStreamerIsReplaced(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(4, 1)
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	var group errgroup.Group
	config := w.DB.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "streamers"
	db, err := pgxpool.NewWithConfig(w.Ctx, config)
	w.Must(err)
	t.Cleanup(db.Close)
	onTheirOwn := func(cfg *streamer.Config) { cfg.DB = db }
	one, leadsOne := countedStreamer(w, onTheirOwn)
	two, leadsTwo := countedStreamer(w, onTheirOwn)
	group.Go(func() error { return one.Run(ctx) })
	group.Go(func() error { return two.Run(ctx) })
	world.AwaitEqual(w, "the partitions that the first one leads", 2, leadsOne.Load)
	world.AwaitEqual(w, "the partitions that the second one leads", 2, leadsTwo.Load)
	all := world.Keys(8)
	for i := range 5 {
		w.CommitKeyed(10*i+1, 10*i+10, all...)
		w.Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'streamers' AND random() < 0.5`)
	}
	w.AwaitPublished(400)
	cancel()
	w.Ended("the streamers", &group)
	wantKeys(w, 4, 50, all...)
}

// TestPlanOfNumberingForMany is TestPlansOnLargeTables for several partitions.
func TestPlanOfNumberingForMany(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(8, 1)
	s := w.Streamer()
	w.CommitMany(8)
	w.Drain(s) // there are chunks now
	w.CommitMany(100_000)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.Exec(`ANALYZE`)
		}
		for _, plan := range []string{
			w.Explain(streamer.SQLNumberMany, 1000, 4<<20, 0),
			w.Explain(streamer.SQLStaged, 0),
		} {
			if !strings.Contains(plan, "using staged_log_records_pkey") || strings.Contains(plan, "Seq Scan on staged_log_records") {
				t.Errorf("analyzed %v: the plan is\n%s", analyzed, plan)
			}
		}
	}
}
