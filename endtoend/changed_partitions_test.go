package endtoend_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
)

// keyOrder is what a consumer has applied of each key. Its handler refuses what
// comes out of turn.
func keyOrder(w *world.World, name string) consumer.Handler {
	w.Helper()
	w.Exec(`CREATE TABLE IF NOT EXISTS key_order (name text, key text, n bigint, PRIMARY KEY (name, key))`)
	return consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
		var data struct{ N int }
		if err := json.Unmarshal(e.Data, &data); err != nil {
			return err
		}
		var n int
		err := tx.QueryRow(ctx, `INSERT INTO key_order AS k VALUES ($1, $2, 1)
			ON CONFLICT (name, key) DO UPDATE SET n = k.n + 1 RETURNING n`, name, e.Key).Scan(&n)
		if err == nil && n != data.N {
			err = fmt.Errorf("record %d of key %s comes as number %d", data.N, e.Key, n)
		}
		return err
	})
}

// TestKeysKeepTheirOrderWhenPartitionsChange changes the number of partitions while
// processes of a consumer read, and lets another consumer read all of it afterwards.
func TestKeysKeepTheirOrderWhenPartitionsChange(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	all := world.Keys(12)
	consumer := func(name string, seed uint64) *consumer.Consumer {
		return w.Consumer(name, func(cfg *consumer.Config) {
			cfg.Handler = keyOrder(w, name)
			cfg.BatchRecords = 7
			cfg.Hooks.BeforeCommit = unilog.SimulateFailures(0.1, seed)
		})
	}
	ctx, cancel := context.WithCancel(w.Ctx)
	defer cancel()
	var group errgroup.Group
	run := func(run func(context.Context) error) {
		group.Go(func() error {
			err := run(ctx)
			if err != nil {
				t.Error(err)
			}
			return nil
		})
	}
	run(w.Streamer().Run)
	run(consumer("sum", 1).Run)
	run(consumer("sum", 2).Run)
	done := func(name string, n int) {
		t.Helper()
		await.Equal(t, "the records that "+name+" has applied", n, func() int {
			if t.Failed() {
				t.FailNow() // a process has ended
			}
			return world.Query[int](w, `SELECT coalesce(sum(n), 0)::int FROM key_order WHERE name = $1`, name)
		})
	}
	steps := []int{1, 4, 2, 7, 1, 3}
	for i, partitions := range steps {
		if i == 1 {
			done("sum", 10*len(all)) // or else there would be nothing to keep apart
		}
		if i > 0 {
			w.Repartition(partitions, steps[i-1])
		}
		w.CommitKeyed(10*i+1, 10*i+10, all...)
	}
	done("sum", 10*len(all)*len(steps))
	run(consumer("late", 3).Run)
	done("late", 10*len(all)*len(steps))
	cancel()
	w.Must(group.Wait())
	w.Exec(`TRUNCATE unilog.checkpoints`) // these keep no sums to be audited
}

// TestBarrierHoldsOnePartition lets one partition be slow, and sees that what comes
// after the barrier in another one waits for it, without being handed out.
func TestBarrierHoldsOnePartition(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	all := world.Keys(6)
	s := w.Streamer()
	w.CommitKeyed(1, 1, all...)
	w.Drain(s)
	w.Repartition(3, 2)
	s.Close() // or the next call would find its term over
	w.CommitKeyed(2, 2, all...)
	w.Drain(s)

	var mu sync.Mutex
	held, handled := true, map[int][]int64{}
	handler := consumer.Handler(func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
		mu.Lock()
		defer mu.Unlock()
		for _, e := range entries {
			if e.Partition == 1 && held {
				return unilog.ErrSimulated
			}
			handled[e.Partition] = append(handled[e.Partition], e.Offset)
		}
		return nil
	})
	c := w.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = handler })
	before := len(w.ReadPartition(1))
	for range 5 {
		_, _ = c.RunOnce(w.Ctx)
	}
	barrier := world.Query[int64](w, `SELECT "offset" FROM unilog.records WHERE partition = 0 AND object = 'unilog'`)
	mu.Lock()
	for partition, offsets := range handled {
		if partition != 0 || offsets[len(offsets)-1] >= barrier {
			t.Errorf("partition 1 of %d records is at its beginning, and of partition %d the offsets %v are handled", before, partition, offsets)
		}
	}
	held = false
	mu.Unlock()
	w.Consume(c)
	n := 0
	for _, offsets := range handled {
		n += len(offsets)
	}
	w.WantCount("handled", n, 2*len(all))
	w.WantCount("checkpoints at the head", world.Query[int](w, `
		SELECT count(*)::int FROM unilog.checkpoints AS c JOIN unilog.partitions AS p USING (partition) WHERE c."offset" = p.next_offset - 1`), 3)
	w.Exec(`TRUNCATE unilog.checkpoints`)
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

// TestDelivererOutlivesARepartition sees that what is registered for it in new
// partitions is a deliverer's.
func TestDelivererOutlivesARepartition(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Publish(2)
	var outside world.Arrivals
	d := w.Deliverer(outside.Deliver)
	w.WantCount("delivered", w.Repeat(d.RunOnce), 2)
	w.Repartition(3, 1)
	w.WantCount("checkpoints", world.Query[int](w, `SELECT count(*) FROM unilog.checkpoints WHERE name = 'hook' AND outside`), 3)
	w.Publish(9)
	w.WantCount("delivered, with the barriers", w.Repeat(d.RunOnce), 12)
	w.WantCount("arrived", len(outside.Entries), 11)
}
