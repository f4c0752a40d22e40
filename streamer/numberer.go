package streamer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// The term ends those before it: what they would number finds another epoch. The
	// session that holds the lock ($1) must be one of the same server: after a failover,
	// one of the two may be with the old primary.
	// Index: none, it is one row.
	sqlBeginNumbering = `
UPDATE unilog.log SET epoch = epoch + 1
WHERE EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = $1 AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid = 'unilog.staged_records'::regclass AND objid = 2
)
RETURNING epoch, low_water, pg_notify('unilog:numbered', ''),
    -- A transaction that has notified cannot be prepared.
    current_setting('max_prepared_transactions')::int = 0 AND EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'unilog.staged_records'::regclass
            AND tgname = 'staged_records_wake' AND tgenabled IN ('O', 'A'))`

	sqlListenStaged = `LISTEN "unilog:staged"`
)

// quietPause is the least time between two steps that found records for which it is
// worth to lie down: who wakes the numberer has to notify, which costs writers.
const quietPause = 5 * time.Millisecond

// roundaboutSteps is after how many steps it is tried again whether all records are small,
// since one of them was not: what was read for that was read in vain.
const roundaboutSteps = 32

// errNotElected says that the session that holds the numberer's lock is not one of the
// same server.
var errNotElected = errors.New("unilog: the lock of the streamer that numbers is not on this server: has the database failed over?")

// numberer gives the staged records their offsets, for all partitions, while it is
// elected. It has a session of its own.
type numberer struct {
	cfg   *Config
	log   *slog.Logger
	reign *reign
	ring  *ring
	part  *part
	epoch int64

	session *session
	low     lowWater
	wakes   bool // writers wake it
	asleep  bool // it has the lock that makes them do so
	idle    bool // there was nothing at the last look
	large   bool // the last step was a large one
	movedAt time.Time
	woken   bool // by a writer, since the last step

	limit      int  // records of the next step: fewer after a failure
	partial    bool // the last step left out partitions that were not compared
	active     int  // partitions, at the last step
	straight   bool // the last step had nothing but small records
	roundabout int  // steps to come that do not try whether that is so

	merging   map[int]merging // small batches at the end of each partition
	toMerge   []merging
	upkeptAt  time.Time
	deletedAt time.Time // when the archive was last looked through for what nobody needs
	complaint string    // the last failure of the upkeep, reported
}

// beginNumbering begins a term of the streamer that numbers, whose lock the elector's
// session has.
func (r *reign) beginNumbering(ctx context.Context, part *part) (*numberer, error) {
	s, err := connect(ctx, r.cfg)
	if err != nil {
		return nil, err
	}
	n := &numberer{
		cfg: r.cfg, log: r.log, reign: r, ring: r.ring, session: s, part: part, limit: part.allowed(r.cfg.BatchRecords),
		merging: map[int]merging{},
	}
	if err := n.begin(ctx, r.session.pid); err != nil {
		s.close()
		return nil, fmt.Errorf("begin to number: %w", err)
	}
	r.setEpoch(n.epoch)
	n.log.Info("numbering", "epoch", n.epoch)
	return n, nil
}

func (n *numberer) begin(ctx context.Context, elected uint32) error {
	if err := n.checkSequence(ctx); err != nil {
		return err
	}
	var low int64
	err := n.session.commit(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		if _, err := conn.Exec(ctx, n.cfg.Schema.SQL(sqlListenStaged)); err != nil {
			return err
		}
		batch := &pgx.Batch{}
		batch.Queue(n.cfg.Schema.SQL(locks.SQLNumbering)) // after what the one before is doing
		batch.Queue(n.cfg.Schema.SQL(sqlBeginNumbering), elected).QueryRow(func(row pgx.Row) error {
			var notified any
			return row.Scan(&n.epoch, &low, &notified, &n.wakes)
		})
		return conn.SendBatch(ctx, batch).Close()
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return errNotElected
	}
	if err != nil {
		return err
	}
	n.low.forget(low)
	return n.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, _ = conn.Exec(ctx, sqlKeepMemory) // without it, all goes on, only slower
		return n.low.look(ctx, conn, n.cfg.Schema)
	})
}

// checkSequence returns an error if ids are in no order.
func (n *numberer) checkSequence(ctx context.Context) error {
	return n.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return postgres.CheckSequence(ctx, conn, n.cfg.Schema)
	})
}

// close ends the numbering and its session.
func (n *numberer) close() {
	n.session.close()
	n.ring.look() // what was committed last may not have been told
}

// run numbers until ctx ends.
func (n *numberer) run(ctx, work context.Context) error {
	stop := n.session.keepAlive(n.cfg.SessionTimeout)
	defer stop()
	idle := loop.Backoff{First: idleFirst, Most: idleMost}
	for ctx.Err() == nil {
		n.ring.wait(ctx)
		if !n.large {
			n.ring.settle(ctx, settlePause)
		}
		moved, err := n.step(work, true)
		if err != nil {
			return err
		}
		n.part.well(work)
		if moved > 0 {
			idle.Reset()
		}
		// Whoever staged before it lay down does not wake it.
		if _, _, due := n.low.due(); n.idle && (moved == 0 || n.asleep && !due) {
			n.rest(ctx, &idle)
		}
	}
	return nil
}

// step looks after the archive if it is time, and gives the oldest staged records their
// offsets, if there are any. It returns how many that were.
func (n *numberer) step(ctx context.Context, sleeps bool) (moved int, err error) {
	if time.Since(n.upkeptAt) >= n.cfg.upkeepPause {
		if err := n.upkeep(ctx); err != nil {
			return 0, err
		}
	}
	for {
		moved, err = n.stepOnce(ctx, sleeps)
		if !errors.Is(err, errEndedMeanwhile) {
			return moved, err
		}
		if err := n.lookAtWriters(ctx); err != nil {
			return 0, err
		}
	}
}

// errEndedMeanwhile says that nothing was numbered: a transaction has ended whose first
// records come before those that were asked for.
var errEndedMeanwhile = errors.New("unilog: a transaction has ended meanwhile")

// stepOnce returns errEndedMeanwhile if it is to be called again.
func (n *numberer) stepOnce(ctx context.Context, sleeps bool) (moved int, err error) {
	if n.idle {
		staged, err := n.look(ctx, sleeps)
		if err != nil {
			return 0, err
		}
		if !staged {
			n.low.passed(math.MaxInt64, 0)
			return n.search(ctx, sleeps)
		}
	}
	after, upTo := n.low.start(n.cfg.walkIDs), int64(math.MaxInt64)
	if after > n.low.low {
		// What was committed before a record was staged comes before it.
		if err := n.lookAtWriters(ctx); err != nil {
			return 0, err
		}
		if moved, err := n.searchDue(ctx); moved > 0 || err != nil {
			return moved, err
		}
		after, upTo = n.low.high, n.low.last
	}
	// After a while without records there is probably no second one: look in the same
	// round trip.
	liesDown := sleeps && time.Since(n.movedAt) > quietPause && upTo == math.MaxInt64
	moved, last, err := n.number(ctx, after, upTo, liesDown)
	if err != nil {
		return 0, err
	}
	if n.woken && moved == 0 {
		n.low.suspect, n.upkeptAt = true, time.Time{}
	}
	n.woken, n.large = false, moved >= n.limit/2
	if moved > 0 {
		n.movedAt = time.Now()
	}
	if !liesDown {
		n.idle = moved == 0 // the next look says whether nothing is staged
	}
	if !n.partial {
		if n.idle {
			last = upTo
		}
		n.low.passed(last, moved)
	}
	if n.low.numbered >= lookRecords {
		err = n.lookAtWriters(ctx)
	}
	if moved == 0 && err == nil {
		return n.search(ctx, sleeps)
	}
	return moved, err
}

// search numbers what transactions have committed late, with ids that were passed. It
// looks for them from time to time, and each time for who takes single steps.
func (n *numberer) search(ctx context.Context, sleeps bool) (moved int, err error) {
	if n.low.wantsLook() || !sleeps && len(n.low.segments) > 0 {
		if err := n.lookAtWriters(ctx); err != nil {
			return 0, err
		}
	}
	return n.searchDue(ctx)
}

func (n *numberer) searchDue(ctx context.Context) (moved int, err error) {
	for {
		after, upTo, due := n.low.due()
		if !due {
			return moved, nil
		}
		found, _, err := n.number(ctx, after, upTo, false)
		if err != nil || found > 0 {
			return moved + found, err // there may be more
		}
		if n.partial {
			return moved, nil
		}
		n.low.searched(upTo)
	}
}

func (n *numberer) lookAtWriters(ctx context.Context) error {
	return n.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return n.low.look(ctx, conn, n.cfg.Schema)
	})
}

// numbered is what a step gave to one partition.
type numbered struct {
	partition int
	batch     batch
	first     int64
	last      int64
}

// number gives records whose ids lie after one and up to another their offsets, commits
// and hands them on. It returns how many, and the last id. It may look whether that was
// all, and then lie down.
func (n *numberer) number(ctx context.Context, after, upTo int64, liesDown bool) (moved int, last int64, err error) {
	var all []numbered
	asleep, staged := false, true
	began := time.Now()
	_, partitions, published, _ := n.reign.unrecorded()
	sql := n.sqlNumber()
	err = n.session.commit(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		batch := &pgx.Batch{}
		if n.asleep {
			batch.Queue(n.cfg.Schema.SQL(sqlGetUp))
		}
		batch.Queue(n.cfg.Schema.SQL(locks.SQLNumbering))
		batch.Queue(n.cfg.Schema.SQL(sql), n.epoch, n.limit, archive.BatchBytes, after, upTo, n.ring.led(), partitions, published, n.reign.elsewhere.Load()).
			Query(func(rows pgx.Rows) (err error) {
				all, moved, last, err = n.collect(rows)
				return err
			})
		if open := n.low.below(after); len(open) > 0 {
			// After the statement's snapshot: it has then seen nothing of them.
			batch.Queue(n.cfg.Schema.SQL(sqlStillOpen), open)
		}
		if liesDown {
			n.queueLook(batch, n.wakes, after, &asleep, &staged)
		}
		return conn.SendBatch(ctx, batch).Close()
	})
	if postgres.SQLState(err) == divisionByZero {
		n.asleep = false
		return 0, 0, errEndedMeanwhile
	}
	if err != nil {
		if tookTooLong(err) {
			n.limit = max(1, n.limit/4)
			n.part.allow(n.limit)
		}
		return 0, 0, fmt.Errorf("number staged records: %w", err)
	}
	n.asleep = asleep
	if liesDown {
		n.idle = !staged
	}
	if sql == sqlNumberSmall && !n.straight {
		n.roundabout = roundaboutSteps
		return n.number(ctx, after, upTo, liesDown)
	}
	n.roundabout = max(0, n.roundabout-1)
	bytes := 0
	for _, b := range all {
		b.batch.took = time.Since(began)
		n.ring.push(b.partition, b.last, b.batch)
		n.noteBatch(b)
		bytes += b.batch.bytes
	}
	if moved > 0 {
		n.adapt(moved, bytes)
	}
	return moved, last, nil
}

// sqlNumber is the statement for the next step.
func (n *numberer) sqlNumber() string {
	if n.active > 1 || n.roundabout > 0 {
		return sqlNumber
	}
	return sqlNumberSmall
}

// adapt sets how many records the next step looks at, since it reads all of them to
// know their sizes. Of large ones it takes only a few.
func (n *numberer) adapt(moved, bytes int) {
	more := n.limit + n.limit/8 + 1
	if bytes >= archive.BatchBytes {
		more = min(more, moved+moved/4+1)
	}
	n.limit = min(more, n.cfg.BatchRecords)
	n.part.allow(n.limit)
}

// divisionByZero is how sqlStillOpen fails.
const divisionByZero = "22012"

// errNumbersElsewhere says that the term of the streamer that numbers is over.
var errNumbersElsewhere = errors.New("unilog: another streamer numbers, or the number of partitions has changed")

// tookTooLong says whether less at a time may succeed.
func tookTooLong(err error) bool {
	switch postgres.SQLState(err) {
	case "57014", // statement_timeout
		"54000", "53200": // an array or a row is too long, or the memory too short
		return true
	}
	return errors.Is(err, context.DeadlineExceeded)
}
