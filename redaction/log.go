package redaction

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// sqlBeginTerm begins a term, as a leader does: the one that leads is refused from then
// on, and begins another. Index: partitions_pkey.
const sqlBeginTerm = `
UPDATE unilog.partitions SET epoch = greatest(epoch, $2) + 1 WHERE partition = $1
RETURNING epoch, (SELECT log_id::text FROM unilog.log), (SELECT count(*) FROM unilog.partitions)`

const (
	// Index: the table is read whole, and has a row for each record that was redacted.
	sqlUnfinished = `
SELECT partition, array_agg("offset" ORDER BY "offset") FROM unilog.redactions WHERE cleared_at IS NULL GROUP BY partition ORDER BY partition`

	// Index: redactions_pkey.
	sqlCleared = `
UPDATE unilog.redactions SET cleared_at = clock_timestamp() WHERE partition = $1 AND "offset" = ANY ($2::bigint[]) AND cleared_at IS NULL`
)

// Unfinished returns how many records are redacted in the archive, and may not be in the
// log: an earlier [Redact] has failed there. The next one finishes it.
func Unfinished(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema) (n int, err error) {
	unfinished, err := (&redaction{db: db, schema: schema}).unfinished(ctx)
	for _, u := range unfinished {
		n += len(u.Offsets)
	}
	return n, err
}

// inPartition are offsets of a partition, in their order.
type inPartition struct {
	Partition int
	Offsets   []int64
}

func (r *redaction) unfinished(ctx context.Context) ([]inPartition, error) {
	rows, _ := r.db.Query(ctx, r.schema.SQL(sqlUnfinished))
	unfinished, err := pgx.CollectRows(rows, pgx.RowToStructByPos[inPartition])
	if err != nil {
		return nil, fmt.Errorf("look for redactions that are not finished: %w", postgres.Explain(err))
	}
	return unfinished, nil
}

// finish has the log lose all that is redacted in the archive. Earlier ones come in, too,
// that have failed on the way: whoever asked for them may not find their records by a key
// any more.
func (r *redaction) finish(ctx context.Context) (emptied []int, err error) {
	unfinished, err := r.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	for _, u := range unfinished {
		is, err := r.empty(ctx, u.Partition, u.Offsets)
		if err != nil {
			return emptied, fmt.Errorf("the archive is redacted, and the log is not: redact again: %w", err)
		}
		if is {
			emptied = append(emptied, u.Partition)
		}
	}
	for _, u := range unfinished {
		if slices.Contains(emptied, u.Partition) {
			if err := r.awaitLog(ctx, u.Partition, u.Offsets); err != nil {
				return emptied, err
			}
		}
		if _, err := r.db.Exec(ctx, r.schema.SQL(sqlCleared), u.Partition, u.Offsets); err != nil {
			return emptied, fmt.Errorf("note that the log is redacted: %w", postgres.Explain(err))
		}
	}
	return emptied, nil
}

// empty empties a partition's log, if it has one of the offsets. What a leader has in
// memory, from the archive as it was, the log then takes no more.
func (r *redaction) empty(ctx context.Context, partition int, offsets []int64) (emptied bool, err error) {
	if r.log == nil {
		return false, nil
	}
	for {
		emptied, err := r.emptyOnce(ctx, partition, offsets[len(offsets)-1])
		if fenced := new(unilog.FencedError); !errors.As(err, &fenced) {
			return emptied, err
		}
		if err := pause(ctx); err != nil { // a leader has begun a term meanwhile
			return false, err
		}
	}
}

func (r *redaction) emptyOnce(ctx context.Context, partition int, last int64) (emptied bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*loop.CallTimeout)
	defer cancel()
	head, err := r.log.Head(ctx, partition)
	if err != nil {
		return false, &unilog.LogError{Call: "read the log's head", Err: err}
	}
	term := unilog.Term{Partition: partition}
	err = r.db.QueryRow(ctx, r.schema.SQL(sqlBeginTerm), partition, head.Epoch).Scan(&term.Epoch, &term.LogID, &term.Partitions)
	if err != nil {
		return false, fmt.Errorf("begin a term: %w", err)
	}
	at, err := r.log.Claim(ctx, term)
	if err != nil || at == 0 {
		return false, err
	}
	entries, err := r.log.Read(ctx, partition, unilog.Cursor{}, 1, 0)
	if err != nil && !errors.Is(err, unilog.ErrUnreadable) {
		return false, &unilog.LogError{Call: "read the log", Err: err}
	}
	if err == nil && (len(entries) == 0 || entries[0].Offset > last) {
		return false, nil // it begins later
	}
	return true, r.log.Reset(ctx, term, 0)
}

// awaitLog waits until the log has been published again, and sees that it has what the
// archive has at the offsets.
func (r *redaction) awaitLog(ctx context.Context, partition int, offsets []int64) error {
	for {
		ok, err := r.isPublished(ctx, partition, offsets[len(offsets)-1])
		if err != nil {
			return err
		}
		if ok {
			break
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("unilog: the records are erased, and the log of partition %d was emptied for it, and is not published again yet: see that a streamer runs: %w", partition, err)
		}
	}
	for _, offset := range offsets {
		same := false
		// What a Read has fetched beyond what it gave may be from before: the next one fetches.
		for try := 0; try < 3 && !same; try++ {
			var err error
			if same, err = r.isSame(ctx, partition, offset); err != nil {
				return err
			}
		}
		if !same {
			return fmt.Errorf("unilog: the log holds another record at offset %d of partition %d than the archive: redact it again", offset, partition)
		}
	}
	return nil
}

// isSame says whether the log has the same at an offset as the archive, or nothing.
func (r *redaction) isSame(ctx context.Context, partition int, offset int64) (bool, error) {
	got, err := r.log.Read(ctx, partition, unilog.Cursor{Offset: offset - 1}, 1, 0)
	if err != nil {
		return false, &unilog.LogError{Call: "read the log", Err: err}
	}
	if len(got) == 0 || got[0].Offset != offset {
		return true, nil // it begins later by now
	}
	want, err := archive.Read(ctx, r.db, r.schema, partition, offset-1, offset, 1)
	if err != nil || len(want) == 0 {
		return true, err
	}
	return got[0].ContentType == want[0].ContentType && bytes.Equal(got[0].Payload(), want[0].Payload()), nil
}

// isPublished says whether the log is past an offset again.
func (r *redaction) isPublished(ctx context.Context, partition int, offset int64) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	head, err := r.log.Head(ctx, partition)
	if err != nil {
		return false, &unilog.LogError{Call: "read the log's head", Err: err}
	}
	return head.Offset >= offset, nil
}
