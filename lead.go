package unilog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// lockClass is the first key of the advisory lock by which streamers elect
// their leader; the second is the partition.
const lockClass = 0x756c6f67 // "ulog"

const (
	// The lock and the session's limits are one statement: a leader that is frozen
	// between two would hold the lock for ever. The session is the leader's own.
	// It ends, and with it the lock, soon after its client has gone silent: frozen,
	// or cut off without a word. Without JIT, see sqlNoJIT. Each statement of a batch
	// must see what was committed before it. What is numbered must be on disk before
	// the log has it.
	sqlTryLead = `
WITH lock AS MATERIALIZED (
    SELECT pg_try_advisory_lock($1, $2) AS granted
), session AS MATERIALIZED (
    SELECT set_config('idle_session_timeout', $3, false),
        set_config('idle_in_transaction_session_timeout', $3, false),
        set_config('tcp_keepalives_idle', '5', false),
        set_config('tcp_keepalives_interval', '5', false),
        set_config('tcp_keepalives_count', '2', false),
        set_config('tcp_user_timeout', '5s', false),
        set_config('jit', 'off', false),
        set_config('default_transaction_isolation', 'read committed', false),
        CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END
    FROM lock WHERE granted
)
SELECT granted, to_regclass('checkpoints') IS NOT NULL
FROM lock LEFT JOIN session ON true`

	sqlUnlock = `SELECT pg_advisory_unlock($1, $2)`

	// A leader that lives says something sooner. The timeouts of a session do not
	// run while the server waits to send to a client that is frozen.
	sqlOust = `
SELECT pg_terminate_backend(a.pid)
FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid AND a.datname = current_database()
    AND l.classid = $1 AND l.objid = $2 AND l.objsubid = 2
    AND a.state_change < clock_timestamp() - make_interval(secs => $3)`

	// The epoch rises above the log's too, which may remember a later one than
	// a database that was restored. Index: log_partitions_pkey.
	sqlBeginTerm = `
UPDATE log_partitions SET epoch = greatest(epoch, $2) + 1
WHERE partition = $1
RETURNING log_id::text, epoch, next_offset - 1, published_offset, low_water, trouble IS NOT NULL,
    -- A transaction that has notified cannot be prepared.
    current_setting('max_prepared_transactions')::int = 0 AND EXISTS (
        SELECT FROM pg_trigger WHERE tgrelid = 'staged_log_records'::regclass
            AND tgname = 'staged_log_records_wake' AND tgenabled IN ('O', 'A'))`

	// Ordered, so that it takes the index: EXISTS would scan the table, whose
	// first pages are empty after a backlog.
	// Index: log_partitions_pkey, staged_log_records_pkey.
	sqlProbe = `
SELECT epoch, (SELECT id FROM staged_log_records WHERE id > $2 ORDER BY id LIMIT 1) IS NOT NULL
FROM log_partitions WHERE partition = $1`

	// The commit need not be flushed: what is lost of it is sent again and
	// refused by the log. Index: log_partitions_pkey.
	sqlRecord = `
WITH relaxed AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))
UPDATE log_partitions SET published_offset = $3
FROM relaxed
WHERE partition = $1 AND epoch = $2`
)

// leadership is what the leader knows. Each field but conn and term can be had
// again from Postgres and the log.
type leadership struct {
	// conn holds the lock: when it is lost, so is the lead.
	conn    *pgx.Conn
	term    Term
	silence time.Duration // after which the session ends

	numbered   int64 // the last offset given
	published  int64 // the last offset that the log is known to hold
	recorded   int64 // what the database knows of published
	trimmed    int64 // the last offset that the log was told to trim
	chunks     chunks
	low        lowWater
	idle       bool // nothing was staged at the last look
	wakes      bool // writers wake the leader, see sleep.go
	asleep     bool // it has the lock that makes them
	lastUpkeep time.Time
	used       time.Time       // when RunOnce last succeeded
	seen       time.Time       // when Postgres last saw the leader, at the latest
	expired    map[string]bool // consumers that nothing is kept for, reported
	complaint  string          // the last failure of the upkeep, reported
	ahead      *ahead          // numbers what follows, if it does
	queue      [][]Entry       // numbered by one before it
	aheadErr   error           // why it ended
	busy       sync.Mutex      // held while it is, so that nobody else uses the session
	consumers  bool            // consumers keep their checkpoints in this database
	troubled   bool            // the database says that the log cannot be written
}

// takeLead tries to become the leader. It returns [ErrStandby] if there is one.
func (s *Streamer) takeLead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pooled, err := s.cfg.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	var locked, consumers bool
	silence := fmt.Sprint(s.cfg.sessionTimeout.Milliseconds())
	if err := pooled.QueryRow(ctx, sqlTryLead, int32(lockClass), firstPartition, silence).Scan(&locked, &consumers); err != nil {
		l := &leadership{conn: pooled.Hijack(), term: Term{Partition: firstPartition}}
		_ = l.close() // it may have the lock
		return fmt.Errorf("take the lead: %w", err)
	}
	if !locked {
		defer pooled.Release()
		tag, err := pooled.Exec(ctx, sqlOust, lockClass, firstPartition, (callTimeout + time.Second).Seconds())
		if err != nil {
			s.log.Debug("could not look whether the leader is frozen", "err", err)
		} else if tag.RowsAffected() > 0 {
			s.log.Warn("the leader does not take what Postgres sends it: its session was ended")
		}
		return ErrStandby
	}
	// The lock belongs to the session, so the session must not return to the
	// pool with it.
	s.lead = &leadership{
		conn: pooled.Hijack(), silence: s.cfg.sessionTimeout, used: time.Now(), seen: time.Now(),
		term: Term{Partition: firstPartition}, expired: map[string]bool{}, consumers: consumers,
		low: lowWater{swept: time.Now()},
	}
	if err := s.beginTerm(ctx); err != nil {
		s.giveUp(ctx, err)
		return err
	}
	return nil
}

// beginTerm announces the new leader to the database and to the log, which
// from then on refuse the one before, and then looks where they are.
func (s *Streamer) beginTerm(ctx context.Context) error {
	l := s.lead
	var before Head
	err := l.awake(ctx, func(ctx context.Context) (err error) {
		before, err = s.cfg.Log.Head(ctx, l.term.Partition)
		return err
	})
	if err != nil {
		return &LogError{"read the log's head", err}
	}
	err = l.conn.QueryRow(ctx, sqlBeginTerm, l.term.Partition, before.Epoch).
		Scan(&l.term.LogID, &l.term.Epoch, &l.numbered, &l.published, &l.low.mark, &l.troubled, &l.wakes)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("unilog: log_partitions has no row for partition %d", l.term.Partition)
	}
	if err != nil {
		return fmt.Errorf("begin a term: %w", err)
	}
	l.recorded = l.published
	// With a handler of the pool's own, what comes with another answer is not kept.
	l.wakes = l.wakes && s.cfg.DB.Config().ConnConfig.OnNotification == nil
	if l.wakes {
		if _, err := l.conn.Exec(ctx, sqlListen); err != nil {
			return fmt.Errorf("listen for staged records: %w", err)
		}
	}
	head, err := s.claim(ctx)
	if err != nil {
		return err
	}
	if err := l.checkHead(ctx, head); err != nil {
		return err
	}
	if l.chunks, err = listChunks(ctx, l.conn, l.term.Partition); err != nil {
		return err
	}
	s.cfg.Observer.leading(l.term.Epoch)
	s.log.Info("leading", "partition", l.term.Partition, "epoch", l.term.Epoch,
		"numbered", l.numbered, "published", l.published, "log", head)
	return nil
}

// claim announces the leader to the log, or sees that it still is the leader,
// and returns the log's head.
func (s *Streamer) claim(ctx context.Context) (head int64, err error) {
	err = s.lead.awake(ctx, func(ctx context.Context) (err error) {
		head, err = s.cfg.Log.Claim(ctx, s.lead.term)
		return err
	})
	if err != nil {
		return 0, &LogError{"claim the log", err}
	}
	return head, nil
}

// checkHead compares the log's head with what was numbered.
func (l *leadership) checkHead(ctx context.Context, head int64) error {
	if head <= l.numbered {
		return nil
	}
	if _, err := l.probe(ctx); err != nil {
		return err // another leader has gone on: it is this one that is behind
	}
	return &LogAheadError{Partition: l.term.Partition, Log: head, Database: l.numbered}
}

// probe looks whether anything is staged, and whether this is still the leader.
func (l *leadership) probe(ctx context.Context) (staged bool, err error) {
	return l.scanProbe(l.conn.QueryRow(ctx, sqlProbe, l.term.Partition, l.low.mark))
}

func (l *leadership) scanProbe(row pgx.Row) (staged bool, err error) {
	var epoch int64
	if err := row.Scan(&epoch, &staged); err != nil {
		return false, fmt.Errorf("look for staged records: %w", err)
	}
	if epoch != l.term.Epoch {
		return false, &FencedError{Partition: l.term.Partition, Epoch: l.term.Epoch, Newer: epoch}
	}
	return staged, nil
}

// record saves how far the log goes, if the database does not know.
func (l *leadership) record(ctx context.Context) error {
	if l.recorded == l.published {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	tag, err := l.conn.Exec(ctx, sqlRecord, l.term.Partition, l.term.Epoch, l.published)
	if err != nil {
		return fmt.Errorf("record what is published: %w", err)
	}
	if tag.RowsAffected() == 0 {
		_, err := l.probe(ctx) // says which epoch leads
		return err
	}
	l.recorded = l.published
	return nil
}

// giveUp steps down because of a failure, which it notes for others to see.
func (s *Streamer) giveUp(ctx context.Context, err error) {
	s.noteTrouble(ctx, err)
	s.stepDown()
}

// stepDown gives up the lead, if this streamer has it, and with it all that it
// holds in memory.
func (s *Streamer) stepDown() {
	if s.lead == nil {
		return
	}
	if s.lead.ahead != nil {
		s.lead.ahead.cancel()
		s.lead.settle()
	}
	if err := s.lead.close(); err != nil {
		s.log.Debug("the leader's session was lost, and its lock with it", "err", err)
	}
	s.lead = nil
	s.cfg.Observer.leading(0)
}

// close releases the lock, so that another streamer can lead at once, and ends
// the session, which releases it in any case.
func (l *leadership) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), farewellTimeout)
	defer cancel()
	_, err := l.conn.Exec(ctx, sqlUnlock, int32(lockClass), l.term.Partition)
	return errors.Join(err, l.conn.Close(ctx))
}
