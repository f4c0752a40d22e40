package unilog_test

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
)

// wantKeys sees that the partitions of the log hold the records of each key in
// their order, from 1 to last, each in the key's partition.
func wantKeys(w *world, partitions, last int, keys ...string) {
	w.Helper()
	seen := map[string]int{}
	for p := range partitions {
		for i, e := range w.readPartition(p) {
			if e.Offset != int64(i+1) {
				w.Errorf("entry number %d of partition %d has offset %d", i+1, p, e.Offset)
			}
			if want := unilog.PartitionOf(e.Key, partitions); p != want {
				w.Errorf("key %s is in partition %d, want %d", e.Key, p, want)
			}
			var data struct{ N int }
			w.must(json.Unmarshal(e.Data, &data))
			if seen[e.Key]++; data.N != seen[e.Key] {
				w.Errorf("record %d of key %s comes as number %d", data.N, e.Key, seen[e.Key])
			}
		}
	}
	for _, key := range keys {
		w.wantCount("records of key "+key, seen[key], last)
	}
	w.wantCount("keys", len(seen), len(keys))
}

func TestKeysKeepTheirOrderInPartitions(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(4, 1)
	s := w.streamer(func(cfg *unilog.StreamerConfig) { cfg.BatchRecords = 50 })
	all := keys(20)
	w.commitKeyed(1, 10, all...)
	w.wantCount("published", w.drain(s), 200)
	w.commitKeyed(11, 20, all...)
	w.wantCount("published", w.drain(s), 200)
	wantKeys(w, 4, 20, all...)
	for p := range 4 {
		head, err := w.log.Head(w.ctx, p)
		w.must(err)
		w.wantCount("partitions that the log tells of", head.Partitions, 4)
	}
	w.wantCount("known as published", int(query[int64](w, `SELECT sum(published_offset)::bigint FROM log_partitions`)), 400)
}

func TestRecordsWithoutAKeyAreSpread(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(4, 1)
	w.commitMany(100)
	w.wantCount("published", w.drain(w.streamer()), 100)
	for p := range 4 {
		w.wantCount(fmt.Sprintf("records of partition %d", p), len(w.readPartition(p)), 25)
	}
}

// countedStreamer is a streamer with the number of partitions that it leads.
func countedStreamer(w *world, change ...func(*unilog.StreamerConfig)) (*unilog.Streamer, *atomic.Int64) {
	w.Helper()
	leads := new(atomic.Int64)
	return w.streamer(append(change, func(cfg *unilog.StreamerConfig) {
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
	w := setup(t)
	const partitions = 8
	w.repartition(partitions, 1)
	all := keys(30)
	awaitShares := func(want string, leads ...*atomic.Int64) {
		t.Helper()
		awaitEqual(w, "the numbers of partitions that each leads", want, func() string {
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
		ctx, cancel := context.WithCancel(w.ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		stop := func() { cancel(); w.must(receive(w, "the streamer to end", ended)) }
		t.Cleanup(cancel)
		return leads, stop
	}
	one, stopOne := run()
	w.commitKeyed(1, 5, all...)
	awaitShares("[8]", one)
	w.awaitPublished(150)
	two, stopTwo := run()
	awaitShares("[4 4]", one, two)
	w.commitKeyed(6, 10, all...)
	w.awaitPublished(300)
	three, stopThree := run()
	awaitShares("[2 3 3]", one, two, three)
	w.commitKeyed(11, 15, all...)
	stopOne()
	awaitShares("[4 4]", two, three)
	w.commitKeyed(16, 20, all...)
	w.awaitPublished(600)
	stopTwo()
	awaitShares("[8]", three)
	w.commitKeyed(21, 25, all...)
	w.awaitPublished(750)
	stopThree()
	wantKeys(w, partitions, 25, all...)
}

// TestPartitionIsRebuilt loses one partition of the log.
func TestPartitionIsRebuilt(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(3, 1)
	all := keys(12)
	s := w.streamer()
	w.commitKeyed(1, 10, all...)
	w.drain(s)
	w.command("DEL", w.stream+":1", "{"+w.stream+":1}:leader")
	w.commitKeyed(11, 12, all...)
	w.drain(s)
	wantKeys(w, 3, 12, all...)
}

// TestRepartitionWhileRecordsFlow changes the number of partitions under a
// streamer, and sees that each partition has its barrier.
func TestRepartitionWhileRecordsFlow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	all := keys(10)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var group errgroup.Group
	s := w.streamer()
	group.Go(func() error { return s.Run(ctx) })
	steps := []int{1, 4, 2, 8, 1, 3}
	for i, partitions := range steps {
		if i == 1 {
			w.awaitPublished(10 * len(all)) // without records there would be no barrier
		}
		if i > 0 {
			w.repartition(partitions, steps[i-1])
		}
		w.commitKeyed(10*i+1, 10*i+10, all...)
	}
	records := 10*len(all)*len(steps) + 4 + 4 + 8 + 8 + 8 // with the barriers
	w.awaitPublished(records)
	cancel()
	w.ended("the streamer", &group)

	// What comes between two barriers, each partition has of its own keys, in order.
	seen := map[string]int{}
	sections := map[int][][]unilog.Entry{}
	for p := range 8 {
		var section []unilog.Entry
		for _, e := range w.readPartition(p) {
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
					w.must(json.Unmarshal(e.Data, &b))
					if b.Partitions != steps[i+1] || b.Offsets[p] != e.Offset {
						t.Errorf("partition %d: barrier %s at offset %d, after %d partitions", p, e.Data, e.Offset, partitions)
					}
					continue
				}
				if want := unilog.PartitionOf(e.Key, partitions); p != want {
					t.Errorf("step %d: key %s is in partition %d, want %d", i, e.Key, p, want)
				}
				var data struct{ N int }
				w.must(json.Unmarshal(e.Data, &data))
				if seen[e.Key]++; data.N != seen[e.Key] {
					t.Errorf("step %d: record %d of key %s comes as number %d", i, data.N, e.Key, seen[e.Key])
				}
			}
		}
	}
	for _, key := range all {
		w.wantCount("records of key "+key, seen[key], 10*len(steps))
	}
}

func TestRepartitionChecksItsNumber(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for _, n := range []int{0, -1, unilog.MaxPartitions + 1} {
		if _, err := unilog.Repartition(w.ctx, w.db, n); err == nil {
			t.Errorf("%d partitions: no error", n)
		}
	}
	w.commit("1")
	w.drain(w.streamer())
	w.repartition(1, 1) // nothing to do
	w.wantCount("records", query[int](w, `SELECT count(*)::int FROM log_records`), 1)
}

// TestBarriersCannotBeStaged sees that nobody else writes what the log does.
func TestBarriersCannotBeStaged(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tx := w.begin()
	err := unilog.Stage(w.ctx, tx, unilog.Record{Action: "repartition", Object: "unilog", Data: json.RawMessage(`{}`)})
	if !errors.Is(err, unilog.ErrReserved) {
		t.Errorf("staged: %v", err)
	}
	if _, err := tx.Exec(w.ctx, `INSERT INTO staged_log_records (action, object, data) VALUES ('a', 'unilog', '{}')`); err == nil {
		t.Error("inserted")
	}
}

// TestLostStreamerIsReplaced loses sessions of two streamers at random.
func TestLostStreamerIsReplaced(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(4, 1)
	ctx, cancel := context.WithCancel(w.ctx)
	defer cancel()
	var group errgroup.Group
	config := w.db.Config()
	config.ConnConfig.RuntimeParams["application_name"] = "streamers"
	db, err := pgxpool.NewWithConfig(w.ctx, config)
	w.must(err)
	t.Cleanup(db.Close)
	onTheirOwn := func(cfg *unilog.StreamerConfig) { cfg.DB = db }
	one, leadsOne := countedStreamer(w, onTheirOwn)
	two, leadsTwo := countedStreamer(w, onTheirOwn)
	group.Go(func() error { return one.Run(ctx) })
	group.Go(func() error { return two.Run(ctx) })
	awaitEqual(w, "the partitions that the first one leads", 2, leadsOne.Load)
	awaitEqual(w, "the partitions that the second one leads", 2, leadsTwo.Load)
	all := keys(8)
	for i := range 5 {
		w.commitKeyed(10*i+1, 10*i+10, all...)
		w.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'streamers' AND random() < 0.5`)
	}
	w.awaitPublished(400)
	cancel()
	w.ended("the streamers", &group)
	wantKeys(w, 4, 50, all...)
}

// TestPlanOfNumberingForMany is TestPlansOnLargeTables for several partitions.
func TestPlanOfNumberingForMany(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.repartition(8, 1)
	s := w.streamer()
	w.commitMany(8)
	w.drain(s) // there are chunks now
	w.commitMany(100_000)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.exec(`ANALYZE`)
		}
		for _, plan := range []string{
			w.explain(unilog.SQLNumberMany, 1000, 4<<20, 0),
			w.explain(unilog.SQLStaged, 0),
		} {
			if !strings.Contains(plan, "using staged_log_records_pkey") || strings.Contains(plan, "Seq Scan on staged_log_records") {
				t.Errorf("analyzed %v: the plan is\n%s", analyzed, plan)
			}
		}
	}
}
