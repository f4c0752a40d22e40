package streamer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// sqlLook returns who has which of the locks by which streamers share the work, in
	// one look, and whether the server takes no writes any more.
	// Index: none; a view of what is in memory, and a row per partition.
	sqlLook = `
SELECT l.format::text, l.epoch, (SELECT count(*) FROM unilog.partitions), k.led, k.members, k.numbers, ` + postgres.SQLReadOnly + `,
    current_setting('max_locks_per_transaction')::int * (current_setting('max_connections')::int + current_setting('max_prepared_transactions')::int)
FROM unilog.log AS l CROSS JOIN (
    SELECT coalesce(array_agg(objid::bigint) FILTER (WHERE classid = 'unilog.partitions'::regclass), '{}') AS led,
        count(*) FILTER (WHERE classid = 'unilog.staged_records'::regclass AND objid = 1) AS members,
        count(*) FILTER (WHERE classid = 'unilog.staged_records'::regclass AND objid = 2) > 0 AS numbers
    FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND classid IN ('unilog.partitions'::regclass, 'unilog.staged_records'::regclass)
) AS k`

	sqlBeMember    = `SELECT pg_advisory_lock_shared('unilog.staged_records'::regclass::oid::integer, 1)`
	sqlLeave       = `SELECT pg_advisory_unlock_shared('unilog.staged_records'::regclass::oid::integer, 1)`
	sqlTryNumberer = `SELECT pg_try_advisory_lock('unilog.staged_records'::regclass::oid::integer, 2)`
	sqlEndNumberer = `SELECT pg_advisory_unlock('unilog.staged_records'::regclass::oid::integer, 2)`
	sqlTryLead     = `SELECT p FROM unnest($1::integer[]) AS p WHERE pg_try_advisory_lock('unilog.partitions'::regclass::oid::integer, p)`
	sqlEndLead     = `SELECT pg_advisory_unlock('unilog.partitions'::regclass::oid::integer, $1)`

	sqlListenNumbered = `LISTEN "unilog:numbered"`

	// sqlOust ends the sessions of a streamer that has said nothing for $1 seconds. One
	// that lives says something sooner. The timeouts of a session do not run while the
	// server waits to send to a client that is frozen.
	sqlOust = `
SELECT pg_terminate_backend(a.pid)
FROM (
    SELECT DISTINCT pid FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND (classid = 'unilog.partitions'::regclass OR classid = 'unilog.staged_records'::regclass AND objid IN (2, 3))
) AS l JOIN pg_stat_activity AS a USING (pid)
WHERE a.state_change < clock_timestamp() - make_interval(secs => $1)`

	// The commit need not be flushed: what is lost of it is sent again and refused by the
	// log. Index: partitions_pkey.
	sqlRecord = `
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE unilog.partitions AS p SET published_offset = u."offset"
FROM relaxed, unnest($1::integer[], $2::bigint[], $3::bigint[]) AS u (partition, "offset", epoch)
WHERE p.partition = u.partition AND p.epoch = u.epoch AND p.published_offset < u."offset"`
)

// reign is what a streamer is for as long as one session lasts. The session holds all
// its locks: that by which streamers are counted, that of the one that numbers, and one
// for each partition that it leads.
type reign struct {
	cfg     *Config
	log     *slog.Logger
	session *session
	ring    *ring
	epoch   atomic.Int64 // of the streamer that numbers, as last seen

	member    bool
	ousted    time.Time   // when frozen streamers were last looked for
	elsewhere atomic.Bool // other streamers lead partitions

	mu      sync.Mutex
	leaders map[int]*leader
}

// seen is what a look shows.
type seen struct {
	partitions int
	led        []int64 // partitions that a streamer leads, this one included
	members    int
	numbers    bool // a streamer numbers
	locks      int  // that the server has room for
}

// ledAtMost is how many partitions all streamers lead: their locks leave half of the
// server's to others. Without any to spare nobody could do anything there.
func (s *seen) ledAtMost() int { return min(s.partitions, s.locks/2) }

// tooMany says that there are more partitions than that.
func (s *seen) tooMany() error {
	if s.ledAtMost() == s.partitions {
		return nil
	}
	return fmt.Errorf("unilog: only %d of %d partitions are led, as Postgres has room for %d locks: make its max_locks_per_transaction %d times as large, and restart it",
		s.ledAtMost(), s.partitions, s.locks, 2*s.partitions/s.locks+1)
}

// newReign makes a session.
func (s *Streamer) newReign(ctx context.Context) (*reign, error) {
	session, err := connect(ctx, &s.cfg)
	if err != nil {
		return nil, err
	}
	r := &reign{
		cfg: &s.cfg, log: s.log, session: session, ring: newRing(),
		leaders: map[int]*leader{},
	}
	err = session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, s.cfg.Schema.SQL(sqlListenNumbered))
		return err
	})
	if err != nil {
		session.close()
		return nil, fmt.Errorf("listen for what is numbered: %w", err)
	}
	return r, nil
}

// look finds out who does what.
func (r *reign) look(ctx context.Context) (seen, error) {
	var s seen
	var format string
	var epoch int64
	var readOnly bool
	err := r.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		err := conn.QueryRow(ctx, r.cfg.Schema.SQL(sqlLook)).Scan(&format, &epoch, &s.partitions, &s.led, &s.members, &s.numbers, &readOnly, &s.locks)
		if err == nil && s.partitions == 0 {
			err = pgx.ErrNoRows
		}
		return postgres.Missing(ctx, conn, r.cfg.Schema.Name(), err, "log", "partitions")
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return s, errors.New(r.cfg.Schema.SQL("unilog: the table unilog.log or unilog.partitions has no row: was it emptied? migrate says what to do"))
	case err == nil && readOnly:
		err = postgres.ErrNotPrimary
	case err == nil:
		err = unilog.CheckFormat(format)
	}
	if err != nil {
		return s, fmt.Errorf("look who leads: %w", err)
	}
	r.setEpoch(epoch)
	return s, nil
}

// setEpoch notes the epoch of the streamer that numbers, unless a later one is known.
// Leaders compare anew for it.
func (r *reign) setEpoch(epoch int64) {
	for {
		known := r.epoch.Load()
		if epoch <= known {
			return
		}
		if r.epoch.CompareAndSwap(known, epoch) {
			r.ring.look()
			return
		}
	}
}

// exec runs a statement on the session.
func (r *reign) exec(ctx context.Context, sql string, args ...any) error {
	return r.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, r.cfg.Schema.SQL(sql), args...)
		return err
	})
}

// tryNumberer returns whether this streamer may number from now on.
func (r *reign) tryNumberer(ctx context.Context) (ok bool, err error) {
	err = r.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, r.cfg.Schema.SQL(sqlTryNumberer)).Scan(&ok)
	})
	return ok, err
}

// tryLead returns those of the partitions that this streamer leads from now on.
func (r *reign) tryLead(ctx context.Context, partitions []int32) (got []int, err error) {
	err = r.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, r.cfg.Schema.SQL(sqlTryLead), partitions)
		got, err = pgx.CollectRows(rows, pgx.RowTo[int])
		return err
	})
	return got, err
}

// beMember makes other streamers count this one, or no longer.
func (r *reign) beMember(ctx context.Context, member bool) error {
	if member == r.member {
		return nil
	}
	sql := sqlBeMember
	if !member {
		sql = sqlLeave
	}
	err := r.exec(ctx, sql)
	if err == nil {
		r.member = member
	}
	return err
}

// oust ends the sessions of streamers that are frozen, if it is time to look for them.
func (r *reign) oust(ctx context.Context) {
	if time.Since(r.ousted) < ousterPause {
		return
	}
	r.ousted = time.Now()
	tag, err := r.cfg.DB.Exec(ctx, r.cfg.Schema.SQL(sqlOust), (loop.CallTimeout + time.Second).Seconds())
	if postgres.HasNoRight(err) {
		r.ousted = r.ousted.Add(unable) // each attempt is an error in the server's log
		r.log.Info("this role may not end sessions, not even those of a streamer that is frozen while it reads; see `unilog doctor`", "err", err)
	} else if err != nil {
		r.log.Debug("could not look whether a streamer is frozen", "err", err)
	} else if tag.RowsAffected() > 0 {
		r.log.Warn("a streamer does not take what Postgres sends it: its sessions were ended")
	}
}

// ousterPause is the time between looks for frozen streamers, and unable what comes to it
// for a role that may do nothing about them.
const (
	ousterPause = time.Second
	unable      = 10 * time.Minute
)

// add and remove keep the list of leaders.
func (r *reign) add(l *leader) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leaders[l.partition] = l
}

func (r *reign) remove(partition int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.leaders, partition)
}

// leads returns how many partitions this streamer leads.
func (r *reign) leads() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.leaders)
}

func (r *reign) all() []*leader {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make([]*leader, 0, len(r.leaders))
	for _, l := range r.leaders {
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b *leader) int { return a.partition - b.partition })
	return all
}

// unrecorded returns the partitions of which the log has more than the database knows,
// how far it goes, and in which term.
func (r *reign) unrecorded() (leaders []*leader, partitions []int32, published, epochs []int64) {
	for _, l := range r.all() {
		if p := l.published.Load(); p > l.recorded.Load() {
			leaders = append(leaders, l)
			partitions, published, epochs = append(partitions, int32(l.partition)), append(published, p), append(epochs, l.term.Epoch)
		}
	}
	return leaders, partitions, published, epochs
}

// record tells the database how far the log goes.
func (r *reign) record(ctx context.Context) error {
	leaders, partitions, published, epochs := r.unrecorded()
	if len(leaders) == 0 {
		return nil
	}
	if err := r.exec(ctx, sqlRecord, partitions, published, epochs); err != nil {
		return fmt.Errorf("record what is published: %w", err)
	}
	for i, l := range leaders {
		l.recorded.Store(published[i])
	}
	return nil
}

// retire ends a leader's term. The lock is still held.
func (r *reign) retire(l *leader) {
	r.remove(l.partition)
	r.ring.leave(l.partition, l.lane)
	r.cfg.Observer.leading(l.partition, 0)
}

// end ends the session, and what is left of the leaders.
func (r *reign) end() {
	for _, l := range r.all() {
		r.retire(l)
	}
	r.session.close()
}
