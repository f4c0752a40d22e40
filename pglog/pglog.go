// Package pglog is Postgres alone: a unilog log for those who have no broker
// yet. The log is the archive itself, so what is numbered is published.
//
// Readers read log_records of the database that writers write to, and are woken
// by a notification of the one session that numbers records. Writers notify
// nobody: what they commit costs them what it costs with any other log.
//
// # Guarantees
//
// A reader never meets an offset before the one that precedes it. A partition's
// offsets are given under the lock of its row in log_partitions, which is held
// until the commit: the next ones are given, and committed, after these can be
// seen.
//
// There is nothing to lose, to rebuild or to trim apart from the database, and so
// nothing that could disagree with it. Reset and Trim change nothing: the
// streamer drops what is past its retention and applied, chunk by chunk.
//
// # What a reader needs
//
// CONNECT, and SELECT on log_records and log_partitions. To listen needs no
// privilege. Each Log that waits keeps a connection of its own for that, beside the
// pool.
//
// Where it cannot listen, as on a hot standby, or hears nothing, as through a
// pooler in transaction mode, each read looks again after 50 to 250 ms, and in any
// case after a second. So a consumer may read from a standby, which spares the
// primary; its Archive is then that same standby.
//
// # Caveats
//
// Every consumer's reading is work for the database: for each partition a
// statement a batch, and half a dozen small ones a second when nothing happens. A
// few consumers are cheap. Take redislog when there are many, when others than
// this database's users read, or when reading gets in the way of writing. Offsets
// stay the same, so consumers go on where they are.
//
// A database that loses commits, as by failing over to an asynchronous standby,
// loses them in the log at the same time. Consumers that keep their state
// elsewhere and have applied them find out only while they are ahead of it, when
// the database is their Archive, too.
package pglog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
)

var _ unilog.NotifiedLog = (*Log)(nil)

// Log is the log in a database of Postgres. It is safe for concurrent use.
type Log struct {
	pool *pgxpool.Pool
	ears *ears

	// heardPause and so on are the constants of these names, but for tests.
	heardPause, deafFirst, deafMost time.Duration

	mu         sync.Mutex
	partitions map[int]*acknowledged
}

// acknowledged is what a streamer of this process was told of a partition.
type acknowledged struct {
	mu   sync.Mutex
	term unilog.Term
	// offset is the last one that was acknowledged, which may be less than the
	// last that was numbered: the rest is about to be appended.
	offset int64
}

const (
	// Index: log_partitions_pkey; a row per partition.
	sqlHead = `
SELECT next_offset - 1, log_id::text, epoch, (SELECT count(*) FROM log_partitions)
FROM log_partitions WHERE partition = $1`

	// Index: log_partitions_pkey.
	sqlClaim = `
SELECT next_offset - 1, log_id::text, epoch, published_offset
FROM log_partitions WHERE partition = $1`
)

// Open returns the log in a pool's database, which must have it already. The
// pool stays the caller's to close, after the log.
func Open(ctx context.Context, pool *pgxpool.Pool) (*Log, error) {
	l := &Log{
		pool: pool, ears: newEars(pool), partitions: map[int]*acknowledged{},
		heardPause: heardPause, deafFirst: deafFirst, deafMost: deafMost,
	}
	if _, err := l.Head(ctx, 0); err != nil {
		return nil, fmt.Errorf("%w: is this the database that records are staged in, and is it migrated?", err)
	}
	return l, nil
}

// Close ends the connection on which readers are woken. It does not wait for
// reads.
func (l *Log) Close() { l.ears.close() }

// Channel implements [unilog.NotifiedLog].
func (l *Log) Channel() string { return channel }

// Head implements [unilog.Log]. It has as many partitions as log_partitions has
// rows, active or not.
func (l *Log) Head(ctx context.Context, partition int) (unilog.Head, error) {
	var h unilog.Head
	err := l.pool.QueryRow(ctx, sqlHead, partition).Scan(&h.Offset, &h.LogID, &h.Epoch, &h.Partitions)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		return unilog.Head{}, fmt.Errorf("pglog: read the head of partition %d: %w", partition, err)
	}
	if h.Epoch == 0 { // nobody has claimed it
		h.LogID, h.Partitions = "", 0
	}
	return h, nil
}

// Claim implements [unilog.Log]. The streamer has announced its term to the
// database, so that there is nothing left to do but to compare. It returns the
// last offset that Append is known to have acknowledged, not the last one that
// was numbered: what lies between them is still to be appended.
func (l *Log) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	a := l.of(term.Partition)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := l.claim(ctx, term, a); err != nil {
		return 0, err
	}
	return a.offset, nil
}

func (l *Log) claim(ctx context.Context, term unilog.Term, a *acknowledged) error {
	var logID string
	var numbered, epoch, published int64
	err := l.pool.QueryRow(ctx, sqlClaim, term.Partition).Scan(&numbered, &logID, &epoch, &published)
	switch {
	case err != nil:
		return fmt.Errorf("pglog: claim partition %d: %w", term.Partition, err)
	case logID != term.LogID:
		return &unilog.ForeignLogError{Partition: term.Partition, LogID: term.LogID, Theirs: logID}
	case epoch > term.Epoch:
		return &unilog.FencedError{Partition: term.Partition, Epoch: term.Epoch, Newer: epoch}
	case epoch < term.Epoch:
		return fmt.Errorf("pglog: the log's database has partition %d at epoch %d, before %d: give the log the streamer's own database, not a standby of it",
			term.Partition, epoch, term.Epoch)
	}
	a.term = term
	a.offset = min(max(a.offset, published), numbered)
	return nil
}

// of returns what is known of a partition.
func (l *Log) of(partition int) *acknowledged {
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.partitions[partition]
	if a == nil {
		a = &acknowledged{}
		l.partitions[partition] = a
	}
	return a
}

// Append implements [unilog.Log]. The entries are there since they were numbered,
// and no later leader's records can have got between: the statement that numbers
// compares the epoch. So Append asks the database only about a term that it does
// not know. It remembers what it has acknowledged, in memory alone: entries sent
// again by this process are refused as with any other log.
func (l *Log) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	if len(entries) == 0 {
		return 0, errors.New("pglog: nothing to append")
	}
	a := l.of(term.Partition)
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.term.LogID != term.LogID || a.term.Epoch != term.Epoch {
		if err := l.claim(ctx, term, a); err != nil {
			return 0, err
		}
	}
	first, last := entries[0].Offset, entries[len(entries)-1].Offset
	switch {
	case first <= a.offset:
		return a.offset, unilog.ErrAlreadyAppended
	case first > a.offset+1:
		return a.offset, unilog.ErrBehind
	}
	a.offset = last
	return last, nil
}

// Reset implements [unilog.Log]. It changes nothing but returns the errors of
// fencing: the log is never behind its database.
func (l *Log) Reset(ctx context.Context, term unilog.Term, _ int64) error {
	_, err := l.Claim(ctx, term)
	return err
}

// Trim implements [unilog.Log]. It changes nothing: the streamer drops what it
// need not keep from the archive.
func (l *Log) Trim(context.Context, int, int64) error { return nil }
