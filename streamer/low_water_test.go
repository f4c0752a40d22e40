package streamer_test

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// tidied lets a leader look around twice, after what is staged is published: it
// then knows which ids are settled.
func tidied(w *world.World, s *streamer.Streamer) (lowWater int64) {
	w.Helper()
	for range 2 {
		w.Drain(s)
		w.Must(s.Upkeep(w.Ctx))
	}
	w.Drain(s)
	w.Commit("1") // the mark is saved with a batch
	w.Drain(s)
	return world.Query[int64](w, `SELECT low_water FROM log_partitions`)
}

func lastStaged(w *world.World) int64 {
	w.Helper()
	return world.Query[int64](w, `SELECT last_value FROM staged_log_records_id_seq`)
}

// A transaction may commit an id that is lower than those that are numbered, and
// the mark waits for it however many others come and go.
func TestLowWaterWaitsForOpenTransactions(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
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
	amounts := world.Query[string](w, `SELECT string_agg(data ->> 'amount', ' ' ORDER BY "offset") FROM log_records WHERE "offset" > 7`)
	if amounts != "2 1" {
		t.Errorf("the last amounts are %s, want 2 1", amounts)
	}
	if last, mark := lastStaged(w), tidied(w, s); mark < last {
		t.Errorf("the mark is %d, and all up to %d is settled", mark, last)
	}
	w.Consume(w.Consumer("sum"))
}

// A batch begins behind the rows that an open snapshot keeps, also that of a new
// leader.
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
	term := s.Term()
	mark := world.Query[int64](w, `SELECT low_water FROM log_partitions`)
	tx := w.Begin()
	defer func() { w.Must(tx.Rollback(w.Ctx)) }()
	rows, err := tx.Query(w.Ctx, `EXPLAIN (ANALYZE, BUFFERS, TIMING off, COSTS off, SUMMARY off) `+streamer.SQLNumber, 0, term.Epoch, 1000, 4<<20, 0, mark, "")
	w.Must(err)
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	w.Must(err)
	plan := strings.Join(lines, "\n")
	// The pages of the index alone would be over fifty.
	scan := regexp.MustCompile(`(?s)Index Scan using staged_log_records_pkey.*?Buffers: shared(?: hit=(\d+))?(?: read=(\d+))?`).FindStringSubmatch(plan)
	if scan == nil {
		t.Fatalf("no index is scanned\n%s", plan)
	}
	hit, _ := strconv.Atoi(scan[1])
	read, _ := strconv.Atoi(scan[2])
	if hit+read == 0 || hit+read > 20 {
		t.Errorf("it looks at %d pages\n%s", hit+read, plan)
	}
}

// Ids of somebody's own are found in the end, wherever they are.
func TestStrayIDIsFound(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	s := w.Streamer()
	w.Commit("1", "1", "1")
	if mark := tidied(w, s); mark < 3 {
		t.Fatalf("the mark is %d", mark)
	}
	w.Exec(`INSERT INTO amounts (amount) VALUES (5)`)
	w.Exec(`INSERT INTO staged_log_records (id, action, object, data) OVERRIDING SYSTEM VALUE VALUES (1, 'note', 'amount', '{"amount": 5}')`)
	await.Equal(t, "records published", 1, func() int {
		s.SweepSoon() // which may not have the time to find it
		w.Must(s.Upkeep(w.Ctx))
		return w.Drain(s)
	})
	w.Consume(w.Consumer("sum"))
}
