package streamer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	sqlLastStaged = `SELECT coalesce(pg_sequence_last_value(pg_get_serial_sequence('staged_log_records', 'id')::regclass), 0)`

	// Who stages has this lock from before the id is drawn until the end of the
	// transaction, prepared ones included. Index: none; a view of what is in memory.
	sqlStagers = `
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND relation = 'staged_log_records'::regclass`

	// Index: staged_log_records_pkey.
	sqlStray = `SELECT id FROM staged_log_records WHERE id <= $1 ORDER BY id LIMIT 1`
)

const (
	// sweepPause is the time between looks for records below the mark.
	sweepPause = time.Minute
	// sweepTimeout bounds one.
	sweepTimeout = time.Second
)

// lowWater is where the search for staged rows begins. Without it, each batch
// would walk again over all rows that were deleted before it, as long as some
// session's snapshot, of a dump or a long report, keeps them from being removed.
//
// A record that commits late may have an id far below those that are numbered
// already, so the mark follows only where no running transaction can stage one.
type lowWater struct {
	mark    int64 // no staged row has an id up to here, and none ever will
	settled int64 // no running transaction can commit an id up to here

	// next becomes settled when the stagers that ran when it was drawn have ended.
	next    int64
	stagers []string
	swept   time.Time
}

// passed notes that what was visible up to an id is numbered.
func (w *lowWater) passed(id int64) {
	w.mark = max(w.mark, min(w.settled, id))
}

// passedAll notes that nothing was visible.
func (w *lowWater) passedAll() { w.passed(math.MaxInt64) }

// move finds out how far the mark may go, and whether it went too far.
func (w *lowWater) move(ctx context.Context, conn *pgx.Conn, db *pgxpool.Pool) error {
	if err := w.look(ctx, conn); err != nil {
		return err
	}
	return w.sweep(ctx, db)
}

// look finds out which ids are settled.
func (w *lowWater) look(ctx context.Context, conn *pgx.Conn) error {
	// Two statements: an id that is drawn between them belongs to a transaction
	// that the second one sees, or that has ended.
	batch := &pgx.Batch{}
	var last int64
	var running []string
	batch.Queue(sqlLastStaged).QueryRow(func(row pgx.Row) error { return row.Scan(&last) })
	batch.Queue(sqlStagers).Query(func(rows pgx.Rows) (err error) {
		running, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	if err := conn.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("look who stages records: %w", err)
	}
	if w.next != 0 {
		w.stagers = slices.DeleteFunc(w.stagers, func(s string) bool { return !slices.Contains(running, s) })
		w.settle()
	}
	if w.next == 0 {
		w.next, w.stagers = last, running
		w.settle()
	}
	return nil
}

func (w *lowWater) settle() {
	if len(w.stagers) == 0 {
		w.settled, w.next = w.next, 0
	}
}

// sweep looks for rows below the mark. There can be none, unless somebody
// writes ids of his own or has set the sequence back.
func (w *lowWater) sweep(ctx context.Context, db *pgxpool.Pool) error {
	if time.Since(w.swept) < sweepPause {
		return nil
	}
	w.swept = time.Now()
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	var id int64
	err := db.QueryRow(ctx, sqlStray, w.mark).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for staged records below the low-water mark: %w", err)
	}
	*w = lowWater{swept: w.swept}
	return nil
}
