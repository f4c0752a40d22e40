package streamer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestNumberingThatTakesTooLong has a server that ends a statement which numbers more
// than four records, as its statement_timeout would.
func TestNumberingThatTakesTooLong(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 2} {
		t.Run(fmt.Sprintf("partitions=%d", partitions), func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Repartition(partitions, 1)
			w.Exec(`
				CREATE FUNCTION be_slow() RETURNS trigger LANGUAGE plpgsql AS $$
				BEGIN
					IF (SELECT sum(cardinality(data)) FROM numbered) > 4 THEN
						RAISE EXCEPTION 'canceling statement due to statement timeout' USING ERRCODE = 'query_canceled';
					END IF;
					RETURN NULL;
				END $$`)
			w.Exec(`CREATE TRIGGER slow AFTER INSERT ON unilog.batches REFERENCING NEW TABLE AS numbered EXECUTE FUNCTION be_slow()`)
			stop := running(w, w.Streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 16 }))
			w.CommitMany(32)
			w.AwaitPublished(32)
			stop()
		})
	}
}

// TestLostNumbererIsReplacedDuringABacklog ends the session that numbers while the
// first partition of the log is published again. Its successor numbers before that
// is done.
func TestLostNumbererIsReplacedDuringABacklog(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	const backlog = 5
	byPartition := map[int]string{}
	for _, key := range world.Keys(20) {
		byPartition[unilog.PartitionOf(key, 2)] = key
	}
	first, second := byPartition[0], byPartition[1]
	s := w.Streamer()
	w.CommitKeyed(1, backlog, first)
	w.Drain(s)
	s.Close()
	w.Wipe()

	published := 0
	s = w.Streamer(func(cfg *streamer.Config) {
		cfg.BatchRecords = 1
		cfg.Hooks.AfterAppend = func(_ context.Context, entries []unilog.Entry) error {
			if entries[0].Partition != 0 {
				return nil
			}
			switch published++; published {
			case 1:
				w.AwaitSleep() // only the one that numbers has the lock for it
				w.Exec(`SELECT pg_terminate_backend(pid, 300000) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock'
					AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
					AND classid::integer = ` + locks.Staged + ` AND objid = 0 AND objsubid = 2`)
				w.CommitKeyed(1, 1, second)
			case 2:
				world.AwaitQuery(w, "the number of staged records", 0, `SELECT count(*) FROM unilog.staged_records`)
			}
			return nil
		}
	})
	stop := running(w, s)
	w.AwaitPublished(backlog + 1)
	stop()
	if published < 2 {
		t.Errorf("%d records were published again", published)
	}
}

// TestNumbererWaitsForTheHeads numbers while another transaction gives offsets of its
// own.
func TestNumbererWaitsForTheHeads(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	s := w.Streamer()
	w.CommitMany(2)
	w.Drain(s)
	tx := w.Begin()
	_, err := tx.Exec(w.Ctx, locks.SQLNumbering)
	w.Must(err)
	for p := range 2 {
		e := unilog.Entry{Partition: p, StagedAt: time.Now(), Record: world.Record("0")}
		w.Must(tx.QueryRow(w.Ctx, `SELECT next_offset FROM unilog.partitions WHERE partition = $1`, p).Scan(&e.Offset))
		w.Must(world.Archive(w.Ctx, tx, []unilog.Entry{e}))
	}
	_, err = tx.Exec(w.Ctx, `UPDATE unilog.partitions SET next_offset = next_offset + 1`)
	w.Must(err)
	w.CommitMany(2)
	var numbering errgroup.Group
	numbering.Go(func() error { return persistently(w.Ctx, s.RunOnce) })
	w.AwaitTrue("the numbering to wait for the heads", `SELECT EXISTS (SELECT FROM pg_stat_activity
		WHERE datname = current_database() AND wait_event_type = 'Lock')`)
	w.Must(tx.Commit(w.Ctx))
	w.Ended("the numbering", &numbering)
	w.Drain(s)
	w.AwaitPublished(6)
}

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
	w.WantCount("known as published", int(world.Query[int64](w, `SELECT sum(published_offset)::bigint FROM unilog.partitions`)), 400)
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

// TestPlanOfNumberingForMany is TestPlansOnLargeTables for several partitions.
func TestPlanOfNumberingForMany(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(8, 1)
	s := w.Streamer()
	w.CommitMany(8)
	w.Drain(s)
	w.CommitMany(100_000)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.Exec(`ANALYZE`)
		}
		for _, plan := range []string{
			explain(w, streamer.SQLNumber, numberingArgs(w, 0, math.MaxInt64)...),
			explain(w, streamer.SQLStaged, 0),
		} {
			if !strings.Contains(plan, "staged_records_pkey") || strings.Contains(plan, "Seq Scan on staged_records") ||
				strings.Contains(plan, "Sort Key: oldest.partition") {
				t.Errorf("analyzed %v: the plan is\n%s", analyzed, plan)
			}
		}
	}
}

// TestTroubleOfWhoNumbersPasses ends the session that numbers, while the partition's
// leader goes on: what was noted of it is taken back when all is well.
func TestTroubleOfWhoNumbersPasses(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`CREATE TABLE troubles (trouble text)`)
	w.Exec(`
		CREATE FUNCTION note_trouble() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN
			INSERT INTO public.troubles VALUES (NEW.trouble);
			RETURN NULL;
		END $$`)
	w.Exec(`CREATE TRIGGER note AFTER UPDATE ON unilog.partitions FOR EACH ROW WHEN (NEW.trouble IS NOT NULL) EXECUTE FUNCTION note_trouble()`)
	w.Runs()
	w.AwaitSleep()
	w.Exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND mode = 'ExclusiveLock' AND objsubid = 2
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
		AND classid::integer = `+locks.Staged+` AND objid = $1`, locks.Sleep)
	await.True(t, "a trouble to be noted", func() bool { return world.Query[int](w, `SELECT count(*) FROM troubles`) > 0 })
	w.Commit("5")
	w.Published(1)
	await.True(t, "the trouble to be over", func() bool {
		return world.Query[bool](w, `SELECT trouble IS NULL AND troubled_at IS NULL FROM unilog.partitions`)
	})
}

// keysOf returns a key of each partition.
func keysOf(partitions int) []string {
	found := make([]string, partitions)
	for _, key := range world.Keys(20 * partitions) {
		found[unilog.PartitionOf(key, partitions)] = key
	}
	return found
}

// TestPartitionThatIsNotComparedWaits keeps the lead of one partition from anybody: what
// belongs to it stays staged, and the low-water mark waits for it.
func TestPartitionThatIsNotComparedWaits(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(3, 1)
	keys := keysOf(3)
	other := w.Begin()
	_, err := other.Exec(w.Ctx, `SELECT pg_advisory_xact_lock(`+locks.Leader+`, 1)`)
	w.Must(err)
	s := w.Streamer(func(cfg *streamer.Config) { cfg.BatchRecords = 4 })
	staged := func() int {
		return world.Query[int](w, `SELECT count(*) FROM unilog.staged_records WHERE key = $1`, keys[1])
	}
	all := func() int { return world.Query[int](w, `SELECT count(*) FROM unilog.staged_records`) }
	w.CommitKeyed(1, 10, keys...)
	w.WantCount("published of the others", w.Drain(s), 20)
	upkeep(w, s)
	w.CommitKeyed(11, 20, keys...)
	w.WantCount("published of the others", w.Drain(s), 20)
	upkeep(w, s)
	w.WantCount("staged of the one that nobody leads", staged(), 20)
	w.WantCount("staged", all(), 20)
	first := world.Query[int64](w, `SELECT min(id) FROM unilog.staged_records`)
	if mark := world.Query[int64](w, `SELECT low_water FROM unilog.log`); mark >= first {
		t.Errorf("the mark is %d, and id %d is staged", mark, first)
	}
	w.Must(other.Rollback(w.Ctx))
	w.WantCount("published when it is led", w.Drain(s), 20)
	w.WantCount("staged", all(), 0)
	wantKeys(w, 3, 20, keys...)
}

// TestLowWaterOfSeveral saves the mark, whichever partition gets records.
func TestLowWaterOfSeveral(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.Repartition(2, 1)
	s := w.Streamer()
	key := keysOf(2)[1]
	for i := range 6 {
		w.CommitKeyed(50*i+1, 50*i+50, key)
		w.Drain(s)
	}
	if last, mark := lastStaged(w), tidied(w, s); mark != last {
		t.Errorf("the mark is %d, and the last id %d", mark, last)
	}
}
