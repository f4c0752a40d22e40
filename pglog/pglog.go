// Package pglog is Postgres alone: a unilog log for those who have no broker
// yet. The log is the archive itself, as far as it is published: readers read
// unilog.batches of the database that writers write to, up to published_offset of
// unilog.partitions, and are woken by a notification of whoever moved that on.
// Writers notify nobody: what they commit costs them what it costs with any other
// log.
//
// # Guarantees
//
// A reader never meets an offset before the one that precedes it, and none that is
// numbered and not published. That matters with a synchronous standby: what a
// streamer has numbered can be seen before the standby has confirmed it, and may
// still be lost. The streamer publishes it only then.
//
// There is nothing to lose, to rebuild or to trim apart from the database, and so
// nothing that could disagree with it. Reset and Trim change nothing: the
// streamer deletes what is past its retention and applied.
//
// To publish is a commit that waits for no disk (synchronous_commit is off for it),
// since nothing is lost with it: after a crash, published_offset may be where it was
// some moments before, and the streamer publishes the same records again. Readers that
// have them already skip them.
//
// # What a reader needs
//
// CONNECT, USAGE on the schema, and SELECT on batches, partitions and log. One that keeps
// its checkpoints elsewhere is seen if it has INSERT and UPDATE on readers. To listen
// needs no privilege. Each Log that waits keeps a connection of its own for that,
// beside the pool.
//
// Where it cannot listen, as on a hot standby, or hears nothing, as through a
// pooler in transaction mode, each read looks again after 50 to 250 ms, and in any
// case after a second. So a consumer may read from a standby, which spares the
// primary; its Archive is then that same standby. It gets there what was published up
// to three times wal_writer_delay (200 ms) ago.
//
// # Caveats
//
// Every consumer's reading is work for the database: for each partition two
// statements a batch, and half a dozen small ones a second when nothing happens. A
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
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

var _ unilog.Log = (*Log)(nil)

// Log is the log in a database of Postgres. It is safe for concurrent use.
type Log struct {
	pool   *pgxpool.Pool
	schema unilog.Schema
	ears   *ears

	// heardPause and so on are the constants of these names, but for tests.
	heardPause, deafFirst, deafMost time.Duration
}

const (
	// Index: partitions_pkey; a row per partition.
	sqlHead = `
SELECT p.published_offset, l.log_id::text, p.epoch, (SELECT count(*) FROM unilog.partitions), l.format::text
FROM unilog.partitions AS p CROSS JOIN unilog.log AS l WHERE p.partition = $1`

	// One round trip appends and notifies, or does nothing. Index: partitions_pkey.
	sqlAppend = `
WITH appended AS (
    UPDATE unilog.partitions AS p SET published_offset = $5
    FROM unilog.log AS l
    WHERE p.partition = $1 AND l.log_id::text = $2 AND p.epoch = $3 AND p.published_offset = $4 - 1
    RETURNING p.partition
)
SELECT set_config('synchronous_commit', 'off', true), pg_notify('unilog:published', partition::text) FROM appended`
)

// Open returns the log in a schema of a pool's database, which must have it already.
// The pool stays the caller's to close, after the log.
func Open(ctx context.Context, pool *pgxpool.Pool, schema unilog.Schema) (*Log, error) {
	if err := schema.Check(); err != nil {
		return nil, err
	}
	l := &Log{
		pool: pool, schema: schema, ears: newEars(pool, schema),
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

// Head implements [unilog.Log]. It has as many partitions as the table has rows,
// active or not.
func (l *Log) Head(ctx context.Context, partition int) (unilog.Head, error) {
	h, err := l.head(ctx, partition)
	err = l.missing(ctx, err)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return unilog.Head{}, nil
	case err != nil:
		return unilog.Head{}, fmt.Errorf("pglog: read the head of partition %d: %w", partition, err)
	case h.Epoch == 0: // nobody has claimed it
		h.LogID, h.Partitions = "", 0
	}
	return h, nil
}

// missing tells a partition that is not there from one that is hidden.
func (l *Log) missing(ctx context.Context, err error) error {
	return postgres.Missing(ctx, l.pool, l.schema.Name(), err, "partitions", "log")
}

func (l *Log) head(ctx context.Context, partition int) (h unilog.Head, err error) {
	var format string
	err = l.pool.QueryRow(ctx, l.schema.SQL(sqlHead), partition).Scan(&h.Offset, &h.LogID, &h.Epoch, &h.Partitions, &format)
	if err == nil {
		err = unilog.CheckFormat(format)
	}
	return h, err
}

// Claim implements [unilog.Log]. The streamer has announced its term to the
// database, so that there is nothing left to do but to compare.
func (l *Log) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	h, err := l.head(ctx, term.Partition)
	switch {
	case err != nil:
		return 0, fmt.Errorf("pglog: claim partition %d: %w", term.Partition, err)
	case h.LogID != term.LogID:
		return 0, &unilog.ForeignLogError{Partition: term.Partition, LogID: term.LogID, Theirs: h.LogID}
	case h.Epoch > term.Epoch:
		return 0, &unilog.FencedError{Partition: term.Partition, Epoch: term.Epoch, Newer: h.Epoch}
	case h.Epoch < term.Epoch:
		l.pool.Reset() // it may be the old primary of a switchover
		return 0, fmt.Errorf("pglog: the log's database has partition %d at epoch %d, before %d: give the log the streamer's own database, not a standby of it",
			term.Partition, h.Epoch, term.Epoch)
	}
	return h.Offset, nil
}

// Append implements [unilog.Log]. The entries are in the archive since they were
// numbered, and no later leader's records can have got between: the statement that
// numbers compares the epoch. Appending lets readers see them.
func (l *Log) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	if len(entries) == 0 {
		return 0, errors.New("pglog: nothing to append")
	}
	first, last := entries[0].Offset, entries[len(entries)-1].Offset
	tag, err := l.pool.Exec(ctx, l.schema.SQL(sqlAppend), term.Partition, term.LogID, term.Epoch, first, last)
	if err != nil {
		return 0, fmt.Errorf("pglog: append to partition %d: %w", term.Partition, postgres.Reconnect(l.pool, err))
	}
	if tag.RowsAffected() > 0 {
		return last, nil
	}
	head, err := l.Claim(ctx, term)
	switch {
	case err != nil:
		return 0, err
	case first <= head:
		return head, unilog.ErrAlreadyAppended
	case first > head+1:
		return head, unilog.ErrBehind
	}
	return 0, fmt.Errorf("pglog: append to partition %d: its head came to offset %d only meanwhile", term.Partition, head)
}

// Reset implements [unilog.Log]. It changes nothing but returns the errors of
// fencing: the log is never behind its database.
func (l *Log) Reset(ctx context.Context, term unilog.Term, _ int64) error {
	_, err := l.Claim(ctx, term)
	return err
}

// Trim implements [unilog.Log]. It changes nothing: the streamer deletes what it
// need not keep from the archive.
func (l *Log) Trim(context.Context, int, int64) error { return nil }
