package streamer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// The epoch rises above the log's too, which may remember a later one than
	// a database that was restored. Index: partitions_pkey.
	sqlBeginTerm = `
UPDATE unilog.partitions AS p SET epoch = greatest(p.epoch, $2) + 1, compared = -1
WHERE p.partition = $1
RETURNING p.epoch, p.published_offset, p.trouble IS NOT NULL, (SELECT log_id::text FROM unilog.log), (SELECT count(*) FROM unilog.partitions)`

	// sqlHead returns the leader's epoch, how far its partition is numbered, and whether
	// a commit that can be seen may still wait for a standby. Index: partitions_pkey.
	sqlHead = `
SELECT epoch, next_offset - 1, current_setting('synchronous_standby_names') <> ''
FROM unilog.partitions WHERE partition = $1`

	// sqlCompared notes that the partition's head was compared with the log, for the term
	// of the streamer that numbers. Index: partitions_pkey.
	sqlCompared = `UPDATE unilog.partitions SET compared = $3 WHERE partition = $1 AND epoch = $2`
)

// leader publishes a partition, for as long as its term lasts. What it holds in memory
// can be had again from Postgres and the log.
type leader struct {
	cfg       *Config
	log       *slog.Logger
	partition int
	session   *session
	ring      *ring
	lane      *lane
	epoch     *atomic.Int64 // of the streamer that numbers, as far as is known

	part     *part
	term     unilog.Term
	compared int64 // the epoch of the streamer that numbers, for which the head was compared

	numbered int64 // the last offset that was given, and is known to be committed
	noticed  int64 // the last offset that hooks and observer have heard of
	// published is the last offset that the log is known to hold, and recorded what the
	// database knows of that. Others read them.
	published, recorded atomic.Int64

	limit    int
	upkeptAt time.Time
	troubled atomic.Bool // the database has a note of an earlier failure, or of who numbers
}

// begin begins a term: it announces the new leader to the database and to the log,
// which from then on refuse the one before, and compares the two. The partition's lock
// must be held.
func (r *reign) begin(ctx context.Context, partition int, part *part) (*leader, error) {
	log := r.log
	if partition > 0 {
		log = log.With("partition", partition)
	}
	l := &leader{
		cfg: r.cfg, log: log, partition: partition, session: r.session, ring: r.ring, epoch: &r.epoch,
		term: unilog.Term{Partition: partition}, compared: -1, part: part, limit: part.allowed(r.cfg.BatchRecords),
	}
	var before unilog.Head
	err := l.call(ctx, "read the log's head", func(ctx context.Context) (err error) {
		before, err = l.cfg.Log.Head(ctx, partition)
		return err
	})
	if err != nil {
		return l, err
	}
	var published int64
	var troubled bool
	err = l.session.commit(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, l.cfg.Schema.SQL(sqlBeginTerm), partition, before.Epoch).
			Scan(&l.term.Epoch, &published, &troubled, &l.term.LogID, &l.term.Partitions)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return l, fmt.Errorf("unilog: the table partitions has no row for partition %d", partition)
	}
	if err != nil {
		return l, fmt.Errorf("begin a term: %w", err)
	}
	l.troubled.Store(troubled)
	l.published.Store(published)
	l.recorded.Store(published)
	l.lane = l.ring.join(partition)
	head, err := l.compare(ctx)
	if err != nil {
		l.ring.leave(partition, l.lane)
		return l, err
	}
	l.noticed = part.begin(l.term.Epoch, l.numbered)
	l.cfg.Observer.leading(partition, l.term.Epoch)
	l.log.Info("leading", "epoch", l.term.Epoch, "numbered", l.numbered, "published", published, "log", head)
	return l, nil
}

// call makes a call to the log. What fails by the log is a [unilog.LogError].
func (l *leader) call(ctx context.Context, what string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := postgres.Patiently(ctx, f); err != nil { // the log may be in Postgres, or its place
		return &unilog.LogError{Call: what, Err: err}
	}
	return nil
}

// claim announces the leader to the log, or sees that it still is the leader,
// and returns the log's head.
func (l *leader) claim(ctx context.Context) (head int64, err error) {
	err = l.call(ctx, "claim the log", func(ctx context.Context) (err error) {
		head, err = l.cfg.Log.Claim(ctx, l.term)
		return err
	})
	return head, err
}

// compare compares the log's head with what was numbered, after the leaders before were
// shut out of the log, and tells the streamer that numbers. It returns the head.
func (l *leader) compare(ctx context.Context) (head int64, err error) {
	epoch := l.epoch.Load() // before, or else the comparison might be for a later term
	if head, err = l.claim(ctx); err != nil {
		return head, err
	}
	if err := l.ask(ctx); err != nil {
		return head, err
	}
	if err := l.checkHead(ctx, head); err != nil {
		return head, err
	}
	if l.compared == epoch {
		return head, nil
	}
	err = l.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		tag, err := conn.Exec(ctx, l.cfg.Schema.SQL(sqlCompared), l.partition, l.term.Epoch, epoch)
		if err == nil && tag.RowsAffected() == 0 {
			err = l.fenced(ctx, conn)
		}
		return err
	})
	if err != nil {
		return head, fmt.Errorf("note that the log was compared: %w", err)
	}
	l.compared = epoch
	return head, nil
}

// fenced says which epoch leads, in place of this one.
func (l *leader) fenced(ctx context.Context, conn *pgx.Conn) error {
	var epoch, numbered int64
	var synchronous bool
	if err := conn.QueryRow(ctx, l.cfg.Schema.SQL(sqlHead), l.partition).Scan(&epoch, &numbered, &synchronous); err != nil {
		return err
	}
	return &unilog.FencedError{Partition: l.partition, Epoch: l.term.Epoch, Newer: epoch}
}

// checkHead compares the log's head with what was numbered.
func (l *leader) checkHead(ctx context.Context, head int64) error {
	if head <= l.numbered {
		return nil
	}
	if err := l.ask(ctx); err != nil { // another leader has gone on: it is this one that is behind
		return err
	}
	if head <= l.numbered {
		return nil
	}
	return &unilog.LogAheadError{Partition: l.partition, Log: head, Database: l.numbered}
}

// ask asks the database how far the partition is numbered, and sees that this is its
// leader. What can be seen may be lost if a standby is promoted that has not confirmed
// it: then it is confirmed first.
func (l *leader) ask(ctx context.Context) error {
	var epoch, numbered int64
	var synchronous bool
	err := l.session.use(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		return conn.QueryRow(ctx, l.cfg.Schema.SQL(sqlHead), l.partition).Scan(&epoch, &numbered, &synchronous)
	})
	if err != nil {
		return fmt.Errorf("read how far the partition is numbered: %w", err)
	}
	if epoch != l.term.Epoch {
		return &unilog.FencedError{Partition: l.partition, Epoch: l.term.Epoch, Newer: epoch}
	}
	if synchronous && numbered > l.numbered {
		if err := l.session.confirm(ctx); err != nil {
			return err
		}
	}
	l.numbered = max(l.numbered, numbered)
	return nil
}

// run publishes until ctx ends, and then finishes what it is at.
func (l *leader) run(ctx, work context.Context) error {
	for ctx.Err() == nil {
		n, err := l.step(work)
		if err != nil {
			return err
		}
		l.part.well(work)
		if n > 0 {
			continue
		}
		tick := time.NewTimer(max(0, l.cfg.upkeepPause-time.Since(l.upkeptAt)))
		select {
		case <-l.lane.wake:
		case <-tick.C:
		case <-ctx.Done():
		}
		tick.Stop()
	}
	return nil
}

// step publishes the next batch, if there is one, and returns how many records that
// were.
func (l *leader) step(ctx context.Context) (int, error) {
	for {
		if time.Since(l.upkeptAt) >= l.cfg.upkeepPause || l.compared != l.epoch.Load() {
			if err := l.upkeep(ctx); err != nil {
				return 0, err
			}
		}
		entries, err := l.next(ctx)
		if err == nil && len(entries) == 0 {
			return 0, nil
		}
		if err == nil {
			err = l.publish(ctx, entries)
		}
		if errors.Is(err, errRebuilding) {
			continue
		}
		if err != nil {
			return 0, err
		}
		l.clearTrouble(ctx)
		l.limit = min(l.limit+l.limit/8+1, l.cfg.BatchRecords)
		l.part.allow(l.limit)
		return len(entries), nil
	}
}

// upkeep looks after a log that was emptied while nothing was published.
func (l *leader) upkeep(ctx context.Context) error {
	l.upkeptAt = time.Now()
	head, err := l.compare(ctx)
	if err != nil {
		return err
	}
	if head < l.published.Load() {
		return l.rebuild(ctx, head)
	}
	if l.published.Load() >= l.numbered {
		l.clearTrouble(ctx)
	}
	return nil
}

// next returns the entries that follow the last published one: those that were handed
// over, or else those that the archive has.
func (l *leader) next(ctx context.Context) ([]unilog.Entry, error) {
	published := l.published.Load()
	b, told := l.lane.take(published + 1)
	if len(b.entries) > 0 {
		l.numbered = b.last()
		return b.entries, l.notice(ctx, b.entries, b.took)
	}
	l.numbered = max(l.numbered, told.numbered)
	if told.stale {
		if err := l.ask(ctx); err != nil {
			return nil, err
		}
	}
	upTo := l.numbered
	if told.before > 0 {
		upTo = min(upTo, told.before)
	}
	if upTo-published <= int64(l.limit) {
		l.lane.open() // for what comes after this
	}
	if upTo <= published {
		return nil, nil
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	var entries []unilog.Entry
	err := postgres.Patiently(ctx, func(ctx context.Context) (err error) {
		entries, err = l.archived(ctx, published, upTo)
		return err
	})
	if err != nil || len(entries) == 0 {
		return nil, err
	}
	return entries, l.notice(ctx, entries, time.Since(began))
}

// notice tells observer and hooks of entries that are new.
func (l *leader) notice(ctx context.Context, entries []unilog.Entry, took time.Duration) error {
	last := entries[len(entries)-1].Offset
	if last <= l.noticed {
		return nil
	}
	entries = entries[max(0, l.noticed+1-entries[0].Offset):]
	l.noticed = last
	l.part.notice(l.term.Epoch, last)
	l.cfg.Observer.numbered(entries, took)
	return loop.CallHook(ctx, l.cfg.Hooks.AfterNumber, entries)
}
