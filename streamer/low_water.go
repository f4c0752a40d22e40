package streamer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
)

const (
	// Null if this role may not see it: newer versions of Postgres then take the sequence
	// for one that was never used.
	sqlLastStaged = `
SELECT CASE WHEN has_sequence_privilege(s, 'SELECT, USAGE') THEN coalesce(pg_sequence_last_value(s), 0) END
FROM CAST(pg_get_serial_sequence('unilog.staged_records', 'id') AS regclass) AS s`

	// A writer has this lock from before it draws an id until the end of its
	// transaction, prepared ones included. Index: none; a view of what is in memory.
	sqlStagers = `
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND pid IS DISTINCT FROM pg_backend_pid()
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation = 'unilog.staged_records'::regclass`

	// sqlStillOpen fails, by a division by zero, if one of the transactions $1 has ended.
	// What was sent with it is then rolled back. Index: none, like sqlStagers.
	sqlStillOpen = `
SELECT 1 / ($1::text[] <@ ARRAY(
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND relation = 'unilog.staged_records'::regclass
))::integer`

	// Index: staged_records_pkey.
	sqlStray = `SELECT id FROM unilog.staged_records WHERE id <= $1 ORDER BY id LIMIT 1`

	// Index: none, it is one row.
	sqlSaveLowWater = `
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE unilog.log SET low_water = $2 FROM relaxed WHERE epoch = $1`
)

const (
	// sweepPause is the time between looks for records below the mark, up to sweepMost
	// where one takes long, since many ids are gone that are not yet removed.
	sweepPause, sweepMost = 10 * time.Second, time.Minute
	// sweepTimeout bounds one.
	sweepTimeout = time.Second
	// lookRecords is after how many numbered records the writers are looked at again.
	lookRecords = 20_000
	// stragglerFirst and stragglerMost bound the time between looks whether a
	// transaction has ended that is older than what was numbered. It is about a tenth of
	// the time for which the transaction has been open.
	stragglerFirst, stragglerMost = 10 * time.Millisecond, 250 * time.Millisecond
)

// lowWater is what is known of the ids of staged rows, so that the search for rows need
// not walk over those that were numbered. As long as some session's snapshot, or an
// open transaction, keeps them from being removed, they would be walked over by each
// step.
//
//	ids  ……… low ───────┬──────────┬──────── high ┄┄┄ last ………▶
//	     none │ segment: │ segment  │              searched by each step
//	          │ of open transactions
//
// A record that commits late may have an id far below those that are numbered. Only a
// transaction can have left it that was open, and had the table locked, when the ids up
// to its own were searched. So a segment is searched again when one of its
// transactions has ended, and forgotten when all have.
//
// It has to be numbered before what was staged after its commit. A step that begins at
// low sees it. One that begins at high looks first which transactions have ended, and
// searches what they may have left; it then numbers no more than the ids that were drawn
// at that look, all of which belong to transactions that had begun.
type lowWater struct {
	low, high int64
	segments  []segment

	// last is the last id drawn, and open are the transactions that might have drawn
	// one up to it and not committed, at the last look.
	last      int64
	open      []string
	looked    time.Time
	numbered  int // records since then
	swept     time.Time
	sweeping  time.Duration // what the last sweep took
	suspect   bool          // a writer said that it had staged something, which was not found
	strays    string        // why ids may have been passed, to be reported
	straggles time.Time     // since when there are segments
	saved     int64
}

// segment are the ids after the one before, or after low.
type segment struct {
	upTo  int64
	open  []string
	ended bool // one of its transactions has, since it was searched
}

// forget begins anew after an id. What has been passed is looked for soon.
func (w *lowWater) forget(low int64) {
	*w = lowWater{low: low, high: low, saved: low}
}

// restart begins anew from the first id there can be, since some may have been passed.
func (w *lowWater) restart(why string) {
	*w = lowWater{low: math.MinInt64, high: math.MinInt64, saved: w.saved, swept: w.swept, sweeping: w.sweeping, strays: why}
}

// start returns the id after which a step begins: low, unless that is more ids to walk
// over than it is worth.
func (w *lowWater) start(walk int64) (after int64) {
	if uint64(w.high-w.low) <= uint64(walk) { // high is not below low, but may be far from it
		return w.low
	}
	return w.high
}

// passed notes that what was visible after high and up to an id is numbered.
func (w *lowWater) passed(id int64, records int) {
	w.numbered += records
	id = min(id, w.last)
	if id <= w.high {
		return
	}
	w.high = id
	switch n := len(w.segments); {
	case n == 0 && len(w.open) == 0:
		w.low = id
	case n > 0 && slices.Equal(w.segments[n-1].open, w.open) && !w.segments[n-1].ended:
		w.segments[n-1].upTo = id
	default:
		if n == 0 {
			w.straggles = time.Now()
		}
		w.segments = append(w.segments, segment{upTo: id, open: w.open})
	}
	w.tidy()
}

// due returns the ids that are to be searched again, if there are any.
func (w *lowWater) due() (after, upTo int64, ok bool) {
	after = w.low
	for _, s := range w.segments {
		if s.ended {
			return after, s.upTo, true
		}
		after = s.upTo
	}
	return 0, 0, false
}

// below returns the transactions that may have left ids up to one, and not ended when
// they were last looked at.
func (w *lowWater) below(id int64) (open []string) {
	for _, s := range w.segments {
		if s.upTo <= id {
			open = append(open, s.open...)
		}
	}
	return open
}

// searched notes that what was visible in the segment that ends at an id is numbered.
func (w *lowWater) searched(upTo int64) {
	for i := range w.segments {
		if w.segments[i].upTo == upTo {
			w.segments[i].ended = false
		}
	}
	w.tidy()
}

// tidy forgets segments that nobody can fill any more, and joins those that are alike.
func (w *lowWater) tidy() {
	for len(w.segments) > 0 && len(w.segments[0].open) == 0 && !w.segments[0].ended {
		w.low = w.segments[0].upTo
		w.segments = w.segments[1:]
	}
	for i := len(w.segments) - 1; i > 0; i-- {
		before, s := &w.segments[i-1], w.segments[i]
		if before.ended == s.ended && slices.Equal(before.open, s.open) {
			before.upTo = s.upTo
			w.segments = slices.Delete(w.segments, i, i+1)
		}
	}
}

// wantsLook says whether it is time to look at the writers again, when nothing is
// staged that was not looked at.
func (w *lowWater) wantsLook() bool {
	if len(w.segments) == 0 {
		return false
	}
	pause := min(max(time.Since(w.straggles)/10, stragglerFirst), stragglerMost)
	return time.Since(w.looked) >= pause
}

// look finds out which transactions may still commit ids that were passed.
func (w *lowWater) look(ctx context.Context, conn *pgx.Conn, schema unilog.Schema) error {
	// Two statements: an id that is drawn between them belongs to a transaction
	// that the second one sees, or that has ended.
	var last *int64
	var open []string
	batch := &pgx.Batch{}
	batch.Queue(schema.SQL(sqlLastStaged)).QueryRow(func(row pgx.Row) error { return row.Scan(&last) })
	batch.Queue(schema.SQL(sqlStagers)).Query(func(rows pgx.Rows) (err error) {
		open, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("look who stages records: %w", err)
	}
	if last == nil {
		return fmt.Errorf("look which id was drawn last: it is hidden from this role: GRANT SELECT ON SEQUENCE %s.staged_records_id_seq", schema.Name())
	}
	w.saw(*last, open)
	return nil
}

// saw notes the last id drawn, and the transactions that were at work after that.
func (w *lowWater) saw(last int64, open []string) {
	if last < max(w.last, w.low) {
		w.restart(fmt.Sprintf("the sequence of the ids was set back to %d, and ids up to %d were numbered", last, max(w.last, w.low)))
	}
	w.last, w.open = last, open
	slices.Sort(w.open)
	w.looked, w.numbered = time.Now(), 0
	prepared := slices.DeleteFunc(slices.Clone(w.open), func(t string) bool { return !strings.HasPrefix(t, "-1/") })
	for i := range w.segments {
		s := &w.segments[i]
		open := slices.DeleteFunc(slices.Clone(s.open), func(t string) bool { return !slices.Contains(w.open, t) })
		if len(open) < len(s.open) {
			s.ended = true
			// One that was prepared goes on under another name.
			open = append(open, prepared...)
			slices.Sort(open)
			open = slices.Compact(open)
		}
		s.open = open
	}
	w.tidy()
}

// save tells the database how far no row is left.
func (w *lowWater) save(ctx context.Context, conn *pgx.Conn, schema unilog.Schema, epoch int64) error {
	if w.low == w.saved {
		return nil
	}
	if _, err := conn.Exec(ctx, schema.SQL(sqlSaveLowWater), epoch, w.low); err != nil {
		return fmt.Errorf("save the low-water mark: %w", err)
	}
	w.saved = w.low
	return nil
}

// sweep looks for rows that were passed. There can be none, unless somebody
// writes ids of his own or has set the sequence back.
func (w *lowWater) sweep(ctx context.Context, db rower, schema unilog.Schema) error {
	pause := min(max(sweepPause, 100*w.sweeping), sweepMost)
	if w.suspect {
		pause = 10 * w.sweeping
	}
	if time.Since(w.swept) < pause {
		return nil
	}
	w.swept, w.suspect = time.Now(), false
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var id int64
	err := db.QueryRow(ctx, schema.SQL(sqlStray), w.low).Scan(&id)
	w.sweeping = time.Since(w.swept)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for staged records below the low-water mark: %w", err)
	}
	w.restart(fmt.Sprintf("a record was staged with the id %d, and all up to %d were numbered: somebody writes ids of his own", id, w.low))
	return nil
}

// rower asks for one row: a pool or a connection.
type rower interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}
