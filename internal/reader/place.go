package reader

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Place is where somebody who asks for a start begins in a partition.
type Place struct {
	Partition int
	// After is the last offset that is left out.
	After int64
	// Published is the log's head, and First the first offset that the archive has.
	Published, First int64
	since            *time.Time // First was numbered
	LogID            string
}

// What is published is safe; what is only numbered may still be lost, and its offset
// given to another record. The time is looked for in each batch of a partition up to it.
// Index: partitions_pkey, batches_pkey.
const sqlStarts = `
SELECT p.partition, p.published_offset, l.log_id::text, coalesce(f.first_offset, p.next_offset), f.numbered_at, coalesce((
    SELECT first_offset - 1 FROM unilog.batches AS b
    WHERE b.partition = p.partition AND b.numbered_at >= $1 AND $1 IS NOT NULL ORDER BY last_offset LIMIT 1
), p.next_offset - 1)
FROM unilog.partitions AS p CROSS JOIN unilog.log AS l LEFT JOIN LATERAL (
    SELECT first_offset, numbered_at FROM unilog.batches AS b WHERE b.partition = p.partition ORDER BY last_offset LIMIT 1
) AS f ON true
ORDER BY p.partition`

// Archived returns where a start is in each partition of the archive.
func Archived(ctx context.Context, db postgres.Querier, schema unilog.Schema, name string, start unilog.Start) ([]Place, error) {
	var at *time.Time
	if !start.Time.IsZero() {
		at = &start.Time
	}
	rows, err := db.Query(ctx, schema.SQL(sqlStarts), at)
	if err != nil {
		return nil, fmt.Errorf("look where the log is: %w", err)
	}
	places, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Place, err error) {
		var then int64
		if err = row.Scan(&p.Partition, &p.Published, &p.LogID, &p.First, &p.since, &then); err == nil {
			p.After = p.after(start, then)
		}
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("look where the log is: %w", postgres.Explain(err))
	}
	return places, nil
}

// after is the offset after which a start is; then is that of its time.
func (p *Place) after(start unilog.Start, then int64) int64 {
	switch {
	case start.Head:
		return p.Published
	case !start.Time.IsZero():
		return min(then, p.Published)
	}
	return max(start.Offset, 1) - 1
}

// Check returns a [unilog.NotArchivedError] if the archive lacks what comes next, or may
// lack it.
func (p *Place) Check(name string, start unilog.Start) error {
	lacks := p.After+1 < p.First
	if !start.Time.IsZero() { // what was before its first record may have been numbered since then
		lacks = p.First > 1 && (p.since == nil || p.since.After(start.Time))
	}
	if !lacks {
		return nil
	}
	e := &unilog.NotArchivedError{Consumer: name, Partition: p.Partition, Time: start.Time, First: p.First}
	if start.Time.IsZero() {
		e.Offset = p.After + 1
	}
	if p.since != nil {
		e.Since = *p.since
	}
	return e
}

// errUnclaimed is why it is not known where the head of a log is.
var errUnclaimed = errors.New("no streamer has claimed the log yet: start one")

// Begin returns the checkpoints at which one begins who has none, by partition, and whose
// log's they are. Without an archive, it asks the log.
func Begin(ctx context.Context, archive postgres.Querier, log unilog.Log, schema unilog.Schema, name string, start unilog.Start) (after []int64, logID string, err error) {
	if archive == nil {
		return beginByLog(ctx, log, start)
	}
	places, err := Archived(ctx, archive, schema, name, start)
	if err != nil {
		return nil, "", err
	}
	for _, p := range places {
		p.After = min(p.After, p.Published)
		if err := p.Check(name, start); err != nil {
			return nil, "", err
		}
		after, logID = append(after, p.After), p.LogID
	}
	return after, logID, nil
}

func beginByLog(ctx context.Context, log unilog.Log, start unilog.Start) (after []int64, logID string, err error) {
	for n := 1; len(after) < n; {
		head, err := log.Head(ctx, len(after))
		if err == nil && head.LogID == "" {
			err = errUnclaimed
		}
		if err != nil {
			return nil, "", &unilog.LogError{Call: "read the log's head", Err: err}
		}
		if len(after) == 0 {
			n, logID = max(head.Partitions, 1), head.LogID
		}
		at := head.Offset
		if !start.Head {
			at = min(start.Offset-1, at)
		}
		after = append(after, at)
	}
	return after, logID, nil
}
