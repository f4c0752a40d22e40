package switchlog

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

const (
	// Index: log_partitions is a handful of rows; of the archive, log_records_pkey, and
	// of checkpoints as many rows as there are consumers and partitions.
	sqlSource = `
SELECT partition, log_id::text, epoch, next_offset - 1,
    coalesce((SELECT "offset" FROM log_records AS r WHERE r.partition = p.partition ORDER BY "offset" LIMIT 1), next_offset),
    %s
FROM log_partitions AS p
ORDER BY partition`

	sqlHasConsumers = `SELECT to_regclass('checkpoints') IS NOT NULL`
	sqlApplied      = `(
    SELECT min("offset") FROM checkpoints AS c
    WHERE c.partition = p.partition AND c.updated_at > clock_timestamp() - interval '7 days'
)`

	// In the order in which others lock them. A new epoch ends each term.
	sqlHold    = `SELECT FROM log_partitions ORDER BY partition FOR UPDATE`
	sqlEndTerm = `UPDATE log_partitions SET epoch = epoch + 1`
	sqlWake    = `SELECT pg_notify('staged_log_records', ''), pg_notify('log_records', '')`

	sqlLast  = `SELECT generation, coalesce(url, ''), final FROM log_places ORDER BY generation DESC LIMIT 1 FOR UPDATE`
	sqlURL   = `SELECT coalesce(url, '') FROM log_places WHERE generation < $1 ORDER BY generation DESC LIMIT 1`
	sqlMove  = `INSERT INTO log_places (generation, url, final) VALUES ($1, nullif($2, ''), $3)`
	sqlFinal = `UPDATE log_places SET final = true WHERE generation = $1`
)

// partition is what the source's database says of one.
type partition struct {
	Partition int
	LogID     string
	Epoch     int64
	Numbered  int64
	First     int64  // of the archive
	Applied   *int64 // by all consumers of this database that were heard of lately
}

const (
	// batchRecords bounds an append of the copy.
	batchRecords = 2500
	// compareRecords is how many of the last entries of a partition are compared.
	compareRecords = 1000
)

// Copy brings a log up to what the database has numbered: the last keep records
// of each partition, and what consumers of this database have not applied that were
// heard of in the last 7 days. It may be called again, and then copies what is new. It returns how many records it
// appended, and is to be called until that is little.
//
// Nobody else may write to the log meanwhile; who reads it does no harm.
func Copy(ctx context.Context, db *pgxpool.Pool, to unilog.Log, keep int64) (int64, error) {
	partitions, err := source(ctx, db)
	if err != nil {
		return 0, err
	}
	copied := make([]int64, len(partitions))
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range partitions {
		group.Go(func() (err error) {
			term := unilog.Term{Partition: p.Partition, Partitions: len(partitions), LogID: p.LogID, Epoch: p.Epoch}
			copied[i], err = p.copy(ctx, db, to, term, keep)
			return err
		})
	}
	err = group.Wait()
	var total int64
	for _, n := range copied {
		total += n
	}
	return total, err
}

func source(ctx context.Context, db *pgxpool.Pool) ([]partition, error) {
	var consumers bool
	if err := db.QueryRow(ctx, sqlHasConsumers).Scan(&consumers); err != nil {
		return nil, fmt.Errorf("switchlog: look for consumers: %w", err)
	}
	applied := `NULL::bigint` // consumers keep their checkpoints elsewhere
	if consumers {
		applied = sqlApplied
	}
	rows, _ := db.Query(ctx, fmt.Sprintf(sqlSource, applied))
	partitions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, fmt.Errorf("switchlog: read what is numbered: %w", err)
	}
	return partitions, nil
}

func (p partition) copy(ctx context.Context, db *pgxpool.Pool, to unilog.Log, term unilog.Term, keep int64) (copied int64, err error) {
	head, err := to.Claim(ctx, term)
	if err != nil {
		return 0, fmt.Errorf("switchlog: claim the new log: %w", err)
	}
	begin := p.Numbered - keep
	if p.Applied != nil {
		begin = min(begin, *p.Applied)
	}
	begin = max(begin, p.First-1, 0)
	switch {
	case head > p.Numbered:
		return 0, fmt.Errorf("switchlog: the new log of partition %d is at offset %d, and only %d are numbered: does somebody else write to it?",
			p.Partition, head, p.Numbered)
	case head < begin:
		if err := to.Reset(ctx, term, begin); err != nil {
			return 0, fmt.Errorf("switchlog: reset the new log: %w", err)
		}
		head = begin
	}
	for head < p.Numbered {
		entries, err := archive.Read(ctx, db, p.Partition, head, p.Numbered, batchRecords)
		if err != nil {
			return copied, err
		}
		if len(entries) == 0 || entries[0].Offset != head+1 {
			return copied, fmt.Errorf("switchlog: the archive of partition %d no longer has offset %d: try again", p.Partition, head+1)
		}
		if head, err = to.Append(ctx, term, entries); err != nil {
			return copied, fmt.Errorf("switchlog: append to the new log: %w", err)
		}
		copied += int64(len(entries))
	}
	return copied, nil
}

// Compare sees that the last entries of a log, in each partition, are those of the
// database, and returns how many it has compared. The log may begin later.
func Compare(ctx context.Context, db *pgxpool.Pool, log unilog.Log) (compared int, err error) {
	partitions, err := source(ctx, db)
	if err != nil {
		return 0, err
	}
	for _, p := range partitions {
		head, err := log.Head(ctx, p.Partition)
		if err != nil {
			return compared, fmt.Errorf("switchlog: read the new log's head: %w", err)
		}
		after := max(head.Offset-compareRecords, 0)
		want, err := archive.Read(ctx, db, p.Partition, after, head.Offset, compareRecords)
		if err != nil {
			return compared, err
		}
		if len(want) == 0 {
			continue
		}
		after = want[0].Offset - 1
		for first := true; len(want) > 0; first = false {
			got, err := log.Read(ctx, p.Partition, unilog.Cursor{Offset: after}, len(want), 0)
			if err != nil {
				return compared, fmt.Errorf("switchlog: read the new log: %w", err)
			}
			if len(got) == 0 {
				return compared, fmt.Errorf("switchlog: the new log of partition %d lacks offset %d", p.Partition, want[0].Offset)
			}
			if skip := got[0].Offset - want[0].Offset; first && skip > 0 && skip < int64(len(want)) {
				want, got = want[skip:], got[:min(len(got), len(want)-int(skip))]
			}
			for i := range got {
				after = got[i].Offset
				got[i].Position = ""
				if !reflect.DeepEqual(got[i], want[i]) {
					return compared, &unilog.DivergedError{Partition: p.Partition, Offset: want[i].Offset}
				}
			}
			want, compared = want[len(got):], compared+len(got)
		}
	}
	return compared, nil
}

// ErrFinal says that there is no move that could be undone, or be made final.
var ErrFinal = errors.New("switchlog: there is no move to undo or to finish: none was made, or it was undone or finished")

// Place says where the log is since its last move.
type Place struct {
	Generation int
	URL        string
	// Final says that the move cannot be undone any more.
	Final bool
}

// Beginner begins a transaction: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Move changes where the log is, for everyone, in one short transaction, and
// returns the new generation. It can be undone until [Finish].
func Move(ctx context.Context, db Beginner, url string) (generation int, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		at, err := last(ctx, tx)
		if err != nil {
			return err
		}
		if !at.Final {
			return errors.New("the move before is not finished: finish or undo it first")
		}
		generation = at.Generation + 1
		return move(ctx, tx, Place{generation, url, false})
	})
	if err != nil {
		return 0, fmt.Errorf("switchlog: move the log: %w", err)
	}
	return generation, nil
}

// Undo moves the log to where it was before the last move, which was not finished.
// What is missing there is published again from the archive.
func Undo(ctx context.Context, db Beginner) (to Place, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		at, err := last(ctx, tx)
		if err != nil {
			return err
		}
		if at.Final {
			return ErrFinal
		}
		to = Place{Generation: at.Generation + 1, Final: true}
		if err := tx.QueryRow(ctx, sqlURL, at.Generation).Scan(&to.URL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, sqlFinal, at.Generation); err != nil {
			return err
		}
		return move(ctx, tx, to)
	})
	if err != nil {
		return Place{}, fmt.Errorf("switchlog: undo the move: %w", err)
	}
	return to, nil
}

// Finish makes the last move final: nobody looks at the old log any more. It returns
// [ErrFinal] if there is none.
func Finish(ctx context.Context, db Beginner) (at Place, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if at, err = last(ctx, tx); err != nil {
			return err
		}
		if at.Final {
			return ErrFinal
		}
		_, err := tx.Exec(ctx, sqlFinal, at.Generation)
		return err
	})
	if err != nil {
		return Place{}, fmt.Errorf("switchlog: finish the move: %w", err)
	}
	return at, nil
}

func last(ctx context.Context, tx pgx.Tx) (at Place, err error) {
	err = tx.QueryRow(ctx, sqlLast).Scan(&at.Generation, &at.URL, &at.Final)
	return at, err
}

func move(ctx context.Context, tx pgx.Tx, to Place) error {
	for _, sql := range []string{sqlHold, sqlEndTerm} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, sqlMove, to.Generation, to.URL, to.Final); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, sqlWake)
	return err
}
