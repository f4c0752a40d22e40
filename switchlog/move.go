package switchlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/retention"
)

const (
	// Index: none, partitions is a handful of rows.
	sqlSource = `
SELECT p.partition, l.log_id::text, p.epoch, p.next_offset - 1, p.published_offset
FROM unilog.partitions AS p CROSS JOIN unilog.log AS l
ORDER BY p.partition`

	// In the order in which others lock them. A new epoch ends each term, also that of
	// the streamer that numbers: it has compared the heads of the log where that was.
	sqlHold      = `SELECT FROM unilog.partitions ORDER BY partition FOR UPDATE`
	sqlEndTerms  = `UPDATE unilog.partitions SET epoch = epoch + 1`
	sqlEndNumber = `UPDATE unilog.log SET epoch = epoch + 1`
	sqlWake      = `SELECT pg_notify('unilog:staged', ''), pg_notify('unilog:numbered', '')`

	sqlLast  = `SELECT generation, coalesce(url, ''), final FROM unilog.places ORDER BY generation DESC LIMIT 1 FOR UPDATE`
	sqlURL   = `SELECT coalesce(url, '') FROM unilog.places WHERE generation < $1 ORDER BY generation DESC LIMIT 1`
	sqlMove  = `INSERT INTO unilog.places (generation, url, final) VALUES ($1, nullif($2, ''), $3)`
	sqlFinal = `UPDATE unilog.places SET final = true WHERE generation = $1`
)

// partition is what the source's database says of one.
type partition struct {
	Partition int
	LogID     string
	Epoch     int64
	Numbered  int64
	Published int64
}

const (
	// batchRecords bounds an append of the copy.
	batchRecords = 2500
	// compareRecords is how many of the last entries of a partition are compared.
	compareRecords = 1000
)

// Keep says how much a new log gets. Its fields are those of the streamers' configuration,
// and so are their defaults, but for Records.
type Keep struct {
	// Records is how many of the last records of each partition it gets at least.
	Records int64
	// Bytes bounds what it gets of a partition.
	Bytes int64
	// ConsumerExpiry is how long a consumer may have been silent for which more is copied.
	ConsumerExpiry time.Duration
	// ForReports also copies what consumers elsewhere still need, as far as streamers keep
	// it that are told to.
	ForReports bool
	// Copied is told, after each append, how many records this call has copied, and of how
	// many that it has found so far. It may be nil, and is never called twice at a time.
	Copied func(n, of int64)
}

func (k Keep) rule(schema unilog.Schema) (retention.Rule, error) {
	switch {
	case k.Records < 0:
		return retention.Rule{}, fmt.Errorf("switchlog: the number of records to keep is %d: it must not be negative", k.Records)
	case k.Bytes < 0:
		return retention.Rule{}, fmt.Errorf("switchlog: the number of bytes to keep is %d: it must not be negative", k.Bytes)
	case k.ConsumerExpiry < 0:
		return retention.Rule{}, fmt.Errorf("switchlog: the consumers' expiry is %v: it must not be negative", k.ConsumerExpiry)
	}
	return retention.Rule{
		Schema: schema, KeepRecords: k.Records, KeepBytes: cmp.Or(k.Bytes, retention.KeepBytes),
		ConsumerExpiry: cmp.Or(k.ConsumerExpiry, retention.ConsumerExpiry), KeepForReports: k.ForReports,
	}, nil
}

// Copy brings a log up to what is published where it is now: the last records of each
// partition, and what consumers of this database have not applied that have not expired,
// as far as a streamer that keeps so many would. It may be called again, and then
// copies what is new. It returns how many records it appended, and is to be called
// until that is little.
//
// Nobody else may write to the log meanwhile; who reads it does no harm. What it holds of
// before is emptied if it has what was redacted since.
func Copy(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, to unilog.Log, keep Keep) (int64, error) {
	rule, err := keep.rule(schema)
	if err != nil {
		return 0, err
	}
	partitions, err := source(ctx, db, schema)
	if err != nil {
		return 0, err
	}
	copied := make([]int64, len(partitions))
	told := telling{tell: keep.Copied}
	group, ctx := errgroup.WithContext(ctx)
	for i, p := range partitions {
		group.Go(func() (err error) {
			term := unilog.Term{Partition: p.Partition, Partitions: len(partitions), LogID: p.LogID, Epoch: p.Epoch}
			copied[i], err = p.copy(ctx, db, rule, to, term, &told)
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

func source(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema) ([]partition, error) {
	if err := schema.Check(); err != nil {
		return nil, err
	}
	rows, _ := db.Query(ctx, schema.SQL(sqlSource))
	partitions, err := pgx.CollectRows(rows, pgx.RowToStructByPos[partition])
	if err != nil {
		return nil, fmt.Errorf("switchlog: read what is numbered: %w", err)
	}
	return partitions, nil
}

func (p partition) copy(ctx context.Context, db *pgxpool.Pool, rule retention.Rule, to unilog.Log, term unilog.Term, told *telling) (copied int64, err error) {
	head, err := p.claim(ctx, db, rule.Schema, to, term)
	if err != nil {
		return 0, err
	}
	needs, err := rule.Look(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("switchlog: %w", err)
	}
	need := needs.Partitions[p.Partition]
	need.Published = p.Published
	begin, err := rule.Logged(ctx, db, p.Partition, need)
	if err != nil {
		return 0, fmt.Errorf("switchlog: %w", err)
	}
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
	told.more(0, p.Published-head)
	for head < p.Published {
		entries, hole, err := read(ctx, db, rule.Schema, p.Partition, head, p.Published)
		switch {
		case err != nil:
			return copied, err
		case hole > 0 && need.Applied != nil && *need.Applied < hole:
			return copied, fmt.Errorf("switchlog: the archive of partition %d has lost offsets %d to %d, or they are damaged there, and a consumer is only at %d: "+
				"let it read them from the log where it is now, or put that row of the table batches back", p.Partition, head+1, hole, *need.Applied)
		case hole > 0: // the new log begins after it
			if err := to.Reset(ctx, term, hole); err != nil {
				return copied, fmt.Errorf("switchlog: reset the new log: %w", err)
			}
			head = hole
			continue
		}
		if head, err = to.Append(ctx, term, entries); err != nil {
			return copied, fmt.Errorf("switchlog: append to the new log: %w", err)
		}
		copied += int64(len(entries))
		told.more(int64(len(entries)), 0)
	}
	return copied, nil
}

// telling adds up what is copied of all partitions.
type telling struct {
	mu    sync.Mutex
	tell  func(n, of int64)
	n, of int64
}

func (t *telling) more(n, of int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n, t.of = t.n+n, t.of+max(0, of)
	if t.tell != nil && n > 0 {
		t.tell(t.n, t.of)
	}
}

// read returns what the archive has after an offset, or how far it has lost what follows.
func read(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, partition int, after, upTo int64) (entries []unilog.Entry, hole int64, err error) {
	entries, err = archive.Read(ctx, db, schema, partition, after, upTo, batchRecords)
	if damaged := new(archive.DamagedError); errors.As(err, &damaged) {
		return nil, min(damaged.Last, upTo), nil
	}
	if err != nil {
		return nil, 0, err
	}
	if len(entries) > 0 && entries[0].Offset == after+1 {
		return entries, 0, nil
	}
	hole, _, err = archive.Lacks(ctx, db, schema, partition, after+1, upTo)
	if err == nil && hole <= after {
		err = fmt.Errorf("switchlog: the archive of partition %d was changed meanwhile: try again", partition)
	}
	return nil, hole, err
}

// lastOf returns the last entries that the archive has of a partition, up to a number of
// them, which follow each other.
func lastOf(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, partition int, head int64) (entries []unilog.Entry, err error) {
	for after := max(head-compareRecords, 0); after < head; {
		found, hole, err := read(ctx, db, schema, partition, after, head)
		switch {
		case err != nil:
			return nil, err
		case hole > 0:
			entries, after = nil, hole
		default:
			entries = append(entries, found...)
			after = found[len(found)-1].Offset
		}
	}
	return entries, nil
}

// Compare sees that the last entries of a log, in each partition, are those of the
// database, and returns how many it has compared. The log may begin later.
func Compare(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, log unilog.Log) (compared int, err error) {
	partitions, err := source(ctx, db, schema)
	if err != nil {
		return 0, err
	}
	for _, p := range partitions {
		head, err := log.Head(ctx, p.Partition)
		if err != nil {
			return compared, fmt.Errorf("switchlog: read the new log's head: %w", err)
		}
		want, err := lastOf(ctx, db, schema, p.Partition, head.Offset)
		if err != nil {
			return compared, err
		}
		if len(want) == 0 {
			continue
		}
		after := want[0].Offset - 1
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
func Move(ctx context.Context, db Beginner, schema unilog.Schema, url string) (generation int, err error) {
	err = in(ctx, db, schema, func(tx places) error {
		at, err := tx.last(ctx)
		if err != nil {
			return err
		}
		if !at.Final {
			return errors.New("the move before is not finished: finish or undo it first")
		}
		generation = at.Generation + 1
		return tx.move(ctx, Place{generation, url, false})
	})
	if err != nil {
		return 0, fmt.Errorf("switchlog: move the log: %w", err)
	}
	return generation, nil
}

// Undo moves the log to where it was before the last move, which was not finished.
// What is missing there is published again from the archive.
func Undo(ctx context.Context, db Beginner, schema unilog.Schema) (to Place, err error) {
	err = in(ctx, db, schema, func(tx places) error {
		at, err := tx.last(ctx)
		if err != nil {
			return err
		}
		if at.Final {
			return ErrFinal
		}
		to = Place{Generation: at.Generation + 1, Final: true}
		if err := tx.QueryRow(ctx, tx.SQL(sqlURL), at.Generation).Scan(&to.URL); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, tx.SQL(sqlFinal), at.Generation); err != nil {
			return err
		}
		return tx.move(ctx, to)
	})
	if err != nil {
		return Place{}, fmt.Errorf("switchlog: undo the move: %w", err)
	}
	return to, nil
}

// Finish makes the last move final: nobody looks at the old log any more. It returns
// [ErrFinal] if there is none.
func Finish(ctx context.Context, db Beginner, schema unilog.Schema) (at Place, err error) {
	err = in(ctx, db, schema, func(tx places) error {
		if at, err = tx.last(ctx); err != nil {
			return err
		}
		if at.Final {
			return ErrFinal
		}
		_, err := tx.Exec(ctx, tx.SQL(sqlFinal), at.Generation)
		return err
	})
	if err != nil {
		return Place{}, fmt.Errorf("switchlog: finish the move: %w", err)
	}
	return at, nil
}

// places is a transaction, and where the log's places are.
type places struct {
	pgx.Tx
	unilog.Schema
}

func in(ctx context.Context, db Beginner, schema unilog.Schema, do func(places) error) error {
	if err := schema.Check(); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error { return do(places{tx, schema}) })
}

func (p places) last(ctx context.Context) (at Place, err error) {
	err = p.QueryRow(ctx, p.SQL(sqlLast)).Scan(&at.Generation, &at.URL, &at.Final)
	return at, err
}

func (p places) move(ctx context.Context, to Place) error {
	for _, sql := range []string{locks.SQLNumbering, sqlHold, sqlEndTerms, sqlEndNumber} {
		if _, err := p.Exec(ctx, p.SQL(sql)); err != nil {
			return err
		}
	}
	if _, err := p.Exec(ctx, p.SQL(sqlMove), to.Generation, to.URL, to.Final); err != nil {
		return err
	}
	_, err := p.Exec(ctx, p.SQL(sqlWake))
	return err
}
