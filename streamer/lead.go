package streamer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/loop"
)

// "ulog"

const (
	// The lock and the session's limits are one statement: a leader that is frozen
	// between two would hold the lock for ever.
	sqlTryLead = `
WITH lock AS MATERIALIZED (
    SELECT pg_try_advisory_lock($1, $3) AS granted
), session AS MATERIALIZED (
    SELECT ` + sqlSession + `
    FROM lock WHERE granted
)
SELECT granted, to_regclass('checkpoints') IS NOT NULL, (SELECT count(*) FROM log_partitions)
FROM lock LEFT JOIN session ON true`

	// The session is a leader's own. It ends, and with it its locks, soon after its
	// client has gone silent: frozen, or cut off without a word. Without JIT, see
	// SQLNoJIT. Each statement of a batch must see what was committed before it. What
	// is numbered must be on disk before the log has it.
	sqlSession = `
        set_config('idle_session_timeout', $2, false),
        set_config('idle_in_transaction_session_timeout', $2, false),
        set_config('tcp_keepalives_idle', '5', false),
        set_config('tcp_keepalives_interval', '5', false),
        set_config('tcp_keepalives_count', '2', false),
        set_config('tcp_user_timeout', '5s', false),
        set_config('jit', 'off', false),
        set_config('default_transaction_isolation', 'read committed', false),
        CASE current_setting('synchronous_commit') WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END`

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
    (SELECT count(*) FROM log_partitions), (SELECT count(*) FROM log_partitions WHERE active),
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

	// Index: log_partitions_pkey.
	sqlHead = `SELECT epoch, next_offset - 1 FROM log_partitions WHERE partition = $1`

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
	// The session holds the lock: when it is lost, so is the lead.
	waiter
	term unilog.Term
	// solo says that there is no other partition, so that this leader numbers what
	// it publishes. Else the leader of the first one has a numberer for all.
	solo     bool
	numberer *numberer

	numbered   int64 // the last offset given
	published  int64 // the last offset that the log is known to hold
	recorded   int64 // what the database knows of published
	trimmed    int64 // the last offset that the log was told to trim
	began      bool  // the observer has heard of the term
	noticed    int64 // the last offset that the observer has heard of
	chunks     archive.Chunks
	lastUpkeep time.Time
	used       time.Time        // when RunOnce last succeeded
	seen       time.Time        // when Postgres last saw the leader, at the latest
	expired    map[string]bool  // consumers that nothing is kept for, reported
	complaint  string           // the last failure of the upkeep, reported
	ahead      *ahead           // numbers what follows, if it does
	queue      [][]unilog.Entry // numbered by one before it
	aheadErr   error            // why it ended
	busy       sync.Mutex       // held while it is, so that nobody else uses the session
	consumers  bool             // consumers keep their checkpoints in this database
	troubled   bool             // the database says that the log cannot be written
}

// takeLead tries to become the leader. It returns [unilog.ErrStandby] if there is one.
func (p *publisher) takeLead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	pooled, err := p.cfg.DB.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	var locked, consumers bool
	silence := fmt.Sprint(p.cfg.SessionTimeout.Milliseconds())
	if err := pooled.QueryRow(ctx, sqlTryLead, int32(locks.Leader), silence, p.partition).Scan(&locked, &consumers, &p.partitions); err != nil {
		l := &leadership{waiter: waiter{conn: pooled.Hijack()}, term: unilog.Term{Partition: p.partition}}
		_ = l.close() // it may have the lock
		return fmt.Errorf("take the lead: %w", err)
	}
	if !locked {
		defer pooled.Release()
		tag, err := pooled.Exec(ctx, sqlOust, locks.Leader, p.partition, (loop.CallTimeout + time.Second).Seconds())
		if err != nil {
			p.log.Debug("could not look whether the leader is frozen", "err", err)
		} else if tag.RowsAffected() > 0 {
			p.log.Warn("the leader does not take what Postgres sends it: its session was ended")
		}
		return unilog.ErrStandby
	}
	// The lock belongs to the session, so the session must not return to the
	// pool with it.
	p.lead = &leadership{
		waiter: waiter{conn: pooled.Hijack(), silence: p.cfg.SessionTimeout, low: lowWater{swept: time.Now()}},
		used:   time.Now(), seen: time.Now(),
		term: unilog.Term{Partition: p.partition}, expired: map[string]bool{}, consumers: consumers,
	}
	if err := p.beginTerm(ctx); err != nil {
		p.giveUp(ctx, err)
		return err
	}
	return nil
}

// beginTerm announces the new leader to the database and to the log, which
// from then on refuse the one before, and then looks where they are.
func (p *publisher) beginTerm(ctx context.Context) error {
	l := p.lead
	var before unilog.Head
	err := l.awake(ctx, "read the log's head", func(ctx context.Context) (err error) {
		before, err = p.cfg.Log.Head(ctx, l.term.Partition)
		return err
	})
	if err != nil {
		return err
	}
	var active int
	err = l.conn.QueryRow(ctx, sqlBeginTerm, l.term.Partition, before.Epoch).Scan(&l.term.LogID, &l.term.Epoch,
		&l.numbered, &l.published, &l.low.mark, &l.troubled, &l.term.Partitions, &active, &l.wakes)
	if errors.Is(err, pgx.ErrNoRows) {
		return fmt.Errorf("unilog: log_partitions has no row for partition %d", l.term.Partition)
	}
	if err != nil {
		return fmt.Errorf("begin a term: %w", err)
	}
	l.recorded, l.noticed = l.published, l.numbered
	p.partitions = l.term.Partitions
	l.solo = p.partition == 0 && active == 1
	if p.partition == 0 && !l.solo {
		if l.numberer, err = p.newNumberer(ctx); err != nil {
			return err
		}
	}
	if err := l.listen(ctx, p.cfg.DB, l.solo); err != nil {
		return err
	}
	head, err := p.claim(ctx)
	if err != nil {
		return err
	}
	if err := l.checkHead(ctx, head); err != nil {
		return err
	}
	chunks, err := archive.ListChunks(ctx, l.conn)
	if err != nil {
		return err
	}
	l.chunks = chunks[l.term.Partition]
	l.began = true
	p.cfg.Observer.leading(p.partition, l.term.Epoch)
	p.log.Info("leading", "epoch", l.term.Epoch,
		"numbered", l.numbered, "published", l.published, "log", head)
	return nil
}

// claim announces the leader to the log, or sees that it still is the leader,
// and returns the log's head.
func (p *publisher) claim(ctx context.Context) (head int64, err error) {
	err = p.lead.awake(ctx, "claim the log", func(ctx context.Context) (err error) {
		head, err = p.cfg.Log.Claim(ctx, p.lead.term)
		return err
	})
	return head, err
}

// checkHead compares the log's head with what was numbered.
func (l *leadership) checkHead(ctx context.Context, head int64) error {
	if head <= l.numbered {
		return nil
	}
	if _, err := l.probe(ctx); err != nil {
		return err // another leader has gone on: it is this one that is behind
	}
	return &unilog.LogAheadError{Partition: l.term.Partition, Log: head, Database: l.numbered}
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
		return false, &unilog.FencedError{Partition: l.term.Partition, Epoch: l.term.Epoch, Newer: epoch}
	}
	return staged, nil
}

// catchUp finds out how far the partition is numbered, by another session.
func (l *leadership) catchUp(ctx context.Context) error {
	var epoch int64
	if err := l.conn.QueryRow(ctx, sqlHead, l.term.Partition).Scan(&epoch, &l.numbered); err != nil {
		return fmt.Errorf("read how far the partition is numbered: %w", err)
	}
	if epoch != l.term.Epoch {
		return &unilog.FencedError{Partition: l.term.Partition, Epoch: l.term.Epoch, Newer: epoch}
	}
	return nil
}

// record saves how far the log goes, if the database does not know.
func (l *leadership) record(ctx context.Context) error {
	if l.recorded == l.published {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
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

// sessionEnded says whether a call failed because Postgres, or the network, has ended
// a session of the leader's. A call that got no answer in time is another matter.
func (l *leadership) sessionEnded(err error) bool {
	return !tookTooLong(err) && (l.conn.IsClosed() || l.numberer != nil && l.numberer.conn.IsClosed())
}

// giveUp steps down because of a failure, which it notes for others to see.
func (p *publisher) giveUp(ctx context.Context, err error) {
	p.noteTrouble(ctx, err)
	p.stepDown()
}

// stepDown gives up the lead, if this streamer has it, and with it all that it
// holds in memory.
func (p *publisher) stepDown() {
	if p.lead == nil {
		return
	}
	if p.lead.ahead != nil {
		p.lead.ahead.cancel()
		p.lead.settle()
	}
	if p.lead.numberer != nil {
		p.lead.numberer.stop()
		p.numberLimit = p.lead.numberer.limit
	}
	if err := p.lead.close(); err != nil {
		p.log.Debug("the leader's session was lost, and its lock with it", "err", err)
	}
	if p.lead.began {
		p.cfg.Observer.leading(p.partition, 0)
	}
	p.lead = nil
}

// close releases the lock, so that another streamer can lead at once, and ends
// the session, which releases it in any case.
func (l *leadership) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	_, err := l.conn.Exec(ctx, sqlUnlock, int32(locks.Leader), l.term.Partition)
	return errors.Join(err, l.conn.Close(ctx))
}
