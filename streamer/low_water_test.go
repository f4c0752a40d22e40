package streamer_test

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// tidied lets a leader look around twice, after what is staged is published: it
// then knows which ids are settled.
func tidied(w *world.World, s *streamer.Streamer) (lowWater int64) {
	w.Helper()
	for range 2 {
		w.Drain(s)
		upkeep(w, s)
	}
	return world.Query[int64](w, `SELECT low_water FROM unilog.log`)
}

func lastStaged(w *world.World) int64 {
	w.Helper()
	return world.Query[int64](w, `SELECT last_value FROM unilog.staged_records_id_seq`)
}

// A transaction may commit an id that is lower than those that are numbered, and
// the mark waits for it however many others come and go.
func TestLowWaterWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	for name, walk := range map[string]int64{"it walks over what is gone": 1000, "it looks who is at work": 1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testLowWater(t, walk)
		})
	}
}

func testLowWater(t *testing.T, walk int64) {
	w := world.SetupOnRedis(t)
	s := w.Streamer(func(cfg *streamer.Config) { *cfg = streamer.WithWalk(*cfg, walk) })
	w.Commit("1")
	open := w.Begin()
	w.Note(open, "2")
	low := lastStaged(w)
	for range 3 {
		w.Commit("1")
		if mark := tidied(w, s); mark >= low {
			t.Fatalf("the mark is %d, and id %d is not committed", mark, low)
		}
	}
	w.Must(open.Commit(w.Ctx))
	w.Commit("1") // it begins later, and comes later
	w.Drain(s)
	amounts := world.Query[string](w, `SELECT string_agg(data ->> 'amount', ' ' ORDER BY "offset") FROM unilog.records WHERE "offset" > 4`)
	if amounts != "2 1" {
		t.Errorf("the last amounts are %s, want 2 1", amounts)
	}
	if last, mark := lastStaged(w), tidied(w, s); mark < last {
		t.Errorf("the mark is %d, and all up to %d is settled", mark, last)
	}
	w.Consume(w.Consumer("sum"))
}

// A step begins behind the rows that an open snapshot keeps, also that of a new leader.
func TestDeadRowsAreWalkedOverOnce(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	snapshot, err := w.DB.BeginTx(w.Ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	w.Must(err)
	defer func() { w.Must(snapshot.Rollback(w.Ctx)) }()
	_, err = snapshot.Exec(w.Ctx, `SELECT count(*) FROM amounts`)
	w.Must(err)
	s := w.Streamer()
	w.CommitMany(20_000)
	last := lastStaged(w)
	if mark := tidied(w, s); mark < last {
		t.Fatalf("the mark is %d after all of %d ids", mark, last)
	}
	s.Close()
	s = w.Streamer()
	w.Drain(s)
	wantFewPages(w, world.Query[int64](w, `SELECT low_water FROM unilog.log`))
}

// A step begins behind the rows that were numbered since a transaction has staged
// something which stays open, and keeps them from being removed.
func TestOpenTransactionThatStagedSlowsNobodyDown(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	open := w.Begin()
	w.Note(open, "2")
	for range 5 {
		w.CommitMany(5000)
		w.Drain(s)
	}
	w.Commit("1")
	w.Drain(s)
	wantFewPages(w, s.High())
	w.Must(open.Commit(w.Ctx))
	w.WantCount("published of the open transaction", w.Drain(s), 1)
	w.Consume(w.Consumer("sum"))
}

// wantFewPages sees that a step which searches after an id looks at few pages of the
// index. All pages would be over fifty.
func wantFewPages(w *world.World, after int64) {
	w.Helper()
	for _, sql := range []string{streamer.SQLNumber, streamer.SQLNumberSmall} {
		plan := explain(w, sql, numberingArgs(w, after, math.MaxInt64)...)
		scan := regexp.MustCompile(`(?s)Index Scan using staged_records_pkey.*?Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?`).FindStringSubmatch(plan)
		if scan == nil {
			w.Fatal("no index is scanned\n" + plan)
		}
		hit, _ := strconv.Atoi(scan[1])
		read, _ := strconv.Atoi(scan[2])
		if hit+read == 0 || hit+read > 20 {
			w.Errorf("it looks at %d pages\n%s", hit+read, plan)
		}
	}
}

// insertStray stages a record with an id of somebody's own.
func insertStray(w *world.World, id int) {
	w.Helper()
	w.Exec(`INSERT INTO amounts (amount) VALUES (5)`)
	w.Exec(fmt.Sprintf(`INSERT INTO unilog.staged_records (id, action, object, data) OVERRIDING SYSTEM VALUE VALUES (%d, 'note', 'amount', '{"amount": 5}')`, id))
}

// Ids of somebody's own below those that were numbered are found in the end, and at once
// by the next streamer.
func TestStrayIDIsFound(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.Commit("1", "1", "1")
	if mark := tidied(w, s); mark < 3 {
		t.Fatalf("the mark is %d", mark)
	}
	insertStray(w, 1)
	if says := strings.Join(w.Status().Troubles(), "\n"); !strings.Contains(says, "1 staged records have ids that were passed") {
		t.Errorf("status says %s", says)
	}
	w.Await("the record to be published", func() string {
		s.SweepSoon() // which may not have the time to find it
		upkeep(w, s)
		return cmp.Or(strings.Repeat("nothing is found", 4-w.LogLength()), "")
	})
	w.WantCount("published by a streamer that stays", w.LogLength(), 4)
	tidied(w, s)
	insertStray(w, 2)
	s.Close()
	w.WantCount("published by the next streamer", w.Drain(w.Streamer()), 1)
	w.Consume(w.Consumer("sum"))
}

// Who wakes a streamer which then finds nothing has staged what was passed. Ids below 0,
// of records without a key, have their partition, too.
func TestStrayIDThatWakesTheStreamer(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Repartition(2, 1)
	w.Commit("1", "1", "1")
	asleep(w) // and never looks by the clock
	id := 0
	w.Await("all to be numbered", func() string {
		if id < 0 && world.Query[bool](w, `SELECT NOT EXISTS (SELECT FROM unilog.staged_records)`) {
			return ""
		}
		id-- // the last look may have been a moment ago: wake it again
		insertStray(w, id)
		return fmt.Sprintf("of %d records some are staged", -id)
	})
	w.WantCount("records", world.Query[int](w, `SELECT count(*) FROM unilog.records`), 3-id)
}

// The sequence of the ids may be behind what was numbered, as after a logical
// replication, or be set back.
func TestSequenceThatIsSetBack(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.CommitMany(500)
	tidied(w, s)
	const setBack = `ALTER SEQUENCE unilog.staged_records_id_seq RESTART`
	w.Exec(setBack)
	w.Commit("1", "2")
	upkeep(w, s)
	w.Drain(s)
	w.WantCount("records, set back while it runs", world.Query[int](w, `SELECT count(*) FROM unilog.records`), 502)
	tidied(w, s)
	s.Close()
	w.Exec(setBack)
	w.Commit("3")
	w.WantCount("published by the next streamer", w.Drain(w.Streamer()), 1)
	w.Consume(w.Consumer("sum"))
}

// TestStepsFindWhatCommittedLate takes single steps, each of which looks for what has
// committed late, although a streamer that runs would wait a little.
func TestStepsFindWhatCommittedLate(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer(func(cfg *streamer.Config) { *cfg = streamer.WithWalk(*cfg, 1) })
	for range 5 {
		early := w.Begin()
		w.Note(early, "1")
		w.Commit("2", "3", "4")
		w.WantCount("published before the lower id commits", w.Drain(s), 3)
		w.Must(early.Commit(w.Ctx))
		w.WantCount("published after it", w.Drain(s), 1)
	}
}
