// Package redaction erases what records hold, everywhere that unilog has put it in the
// database that they were staged in, and in the log. What stays of a record is its place:
// offsets have no gaps, so that consumers go on as before.
//
// A replacement comes in the place of the data, and nothing in that of the headers, in
// three places: the archive, dead letters of consumers in the same database, and the
// log. A log cannot change an entry. So it is emptied, by a term of its own that shuts
// out what a leader may still have in memory, and the streamer publishes it again from the
// archive, as it does with any log that was lost. Readers bear that: offsets and
// checkpoints stay what they are. With Postgres alone the archive is the log.
//
// # Caveats
//
// What was read before stays where it went: in what consumers have made of it, in the
// databases of consumers elsewhere and their dead letters, in logs that were moved away
// from. Postgres keeps old rows until they are vacuumed, and in its WAL and backups;
// Redis in its files until it rewrites them; Kafka until it deletes the segment.
package redaction

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Place is where a record is in the log.
type Place struct {
	Partition int
	Offset    int64
}

// Order says what to do, and why. Reason is required.
type Order struct {
	// Reason is kept in the table redactions for ever. Nothing that is to be erased
	// belongs there.
	Reason string
	// Replacement is JSON that takes the place of the data, or of a body: default
	// {"redacted":true}.
	Replacement json.RawMessage
	// EraseKey says that the records' keys go, too. They have chosen the partition, and
	// nobody needs them any more, but who searches by them.
	EraseKey bool
	// Unapplied says that consumers of this database get the replacement that have not
	// applied a record yet. Otherwise [Redact] refuses.
	Unapplied bool
}

// Report says what was found, and is erased.
type Report struct {
	// Archived is in how many records of the archive, and Parked in how many dead letters.
	Archived, Parked int
	// Emptied are the partitions whose log had some of the records.
	Emptied []int
}

// UnappliedError says that a consumer of the same database has not applied a record, or
// has parked it. Nothing was changed.
type UnappliedError struct {
	Place
	Consumer   string
	Checkpoint int64
	Parked     bool
}

func (e *UnappliedError) Error() string {
	if e.Parked {
		return fmt.Sprintf("unilog: consumer %s has parked offset %d of partition %d, and the audit counts what it holds", e.Consumer, e.Offset, e.Partition)
	}
	return fmt.Sprintf("unilog: consumer %s has not applied offset %d of partition %d: it is at %d", e.Consumer, e.Offset, e.Partition, e.Checkpoint)
}

const (
	// Index: places_pkey.
	sqlIsFinal = `SELECT final FROM unilog.places ORDER BY generation DESC LIMIT 1`

	// Index: partitions_pkey.
	sqlHead = `SELECT next_offset - 1, published_offset FROM unilog.partitions WHERE partition = $1`

	sqlHasConsumers = `SELECT to_regclass('unilog.checkpoints') IS NOT NULL`

	// sqlUnapplied lists who has not applied some of the offsets $2 of a partition, or has
	// parked them. Index: checkpoints and dead_letters are read whole.
	sqlUnapplied = `
SELECT o."offset", n.name, coalesce(c."offset", 0), d."offset" IS NOT NULL
FROM unnest($2::bigint[]) AS o ("offset")
CROSS JOIN (SELECT DISTINCT name FROM unilog.checkpoints) AS n
LEFT JOIN unilog.checkpoints AS c ON c.name = n.name AND c.partition = $1
LEFT JOIN unilog.dead_letters AS d ON d.consumer = n.name AND d.partition = $1 AND d."offset" = o."offset"
WHERE coalesce(c."offset", 0) < o."offset" OR d."offset" IS NOT NULL
ORDER BY o."offset", n.name`

	// What a handler said may quote the data. Index: the table is read whole.
	sqlParked = `
UPDATE unilog.dead_letters
SET data = $3::jsonb, body = NULL, content_type = NULL, headers = '{}', error = 'redacted', key = CASE WHEN $4 THEN '' ELSE key END
WHERE partition = $1 AND "offset" = ANY ($2::bigint[])
    AND (data IS DISTINCT FROM $3::jsonb OR headers <> '{}' OR error <> 'redacted' OR $4 AND key <> '')`

	// sqlArchived writes each batch anew that has some of the offsets, and returns those
	// that it had. A batch that is damaged it leaves, and an entry of the log's own.
	// Index: batches_pkey.
	sqlArchived = `
WITH found AS MATERIALIZED (
    SELECT DISTINCT b.last_offset
    FROM unnest($2::bigint[]) AS o ("offset")
    CROSS JOIN LATERAL (
        SELECT first_offset, last_offset FROM unilog.batches
        WHERE partition = $1 AND last_offset >= o."offset" ORDER BY last_offset LIMIT 1
    ) AS b
    WHERE b.first_offset <= o."offset"
)
UPDATE unilog.batches AS b
SET data = n.data, headers = n.headers, key = n.key, body = n.body, content_type = n.content_type,
    bytes = pg_column_size(b.action) + pg_column_size(b.object) + pg_column_size(n.key) + pg_column_size(n.data) + pg_column_size(n.headers)
        + coalesce(pg_column_size(n.body) + pg_column_size(n.content_type), 0)
FROM found AS f JOIN unilog.batches AS c ON c.partition = $1 AND c.last_offset = f.last_offset
CROSS JOIN LATERAL (
    SELECT array_agg(CASE WHEN hit THEN $3::jsonb::text ELSE data END ORDER BY n) AS data,
        array_agg(CASE WHEN hit THEN '{}' ELSE headers END ORDER BY n) AS headers,
        array_agg(CASE WHEN hit AND $4 THEN '' ELSE key END ORDER BY n) AS key,
        CASE WHEN count(content_type) FILTER (WHERE NOT hit) > 0 THEN array_agg(CASE WHEN NOT hit THEN body END ORDER BY n) END AS body,
        CASE WHEN count(content_type) FILTER (WHERE NOT hit) > 0 THEN array_agg(CASE WHEN NOT hit THEN content_type END ORDER BY n) END AS content_type,
        array_agg(c.first_offset + n - 1) FILTER (WHERE hit) AS offsets
    FROM (
        SELECT r.*, c.first_offset + r.n - 1 = ANY ($2::bigint[]) AND r.object <> '` + unilog.ReservedObject + `' AS hit
        FROM unnest(c.object, c.key, c.data, c.headers, c.body, c.content_type) WITH ORDINALITY AS r (object, key, data, headers, body, content_type, n)
    ) AS r
) AS n
WHERE b.partition = $1 AND b.last_offset = f.last_offset
    AND cardinality(c.object) = cardinality(c.data) AND cardinality(c.key) = cardinality(c.data) AND cardinality(c.headers) = cardinality(c.data)
    AND coalesce(cardinality(c.body) = cardinality(c.data) AND cardinality(c.content_type) = cardinality(c.data), c.body IS NULL AND c.content_type IS NULL)
RETURNING coalesce(n.offsets, '{}')`

	sqlNote = `
INSERT INTO unilog.redactions AS r (partition, "offset", reason, unapplied)
SELECT $1, o."offset", $3, ARRAY(SELECT u.name FROM unnest($4::bigint[], $5::text[]) AS u ("offset", name) WHERE u."offset" = o."offset")
FROM unnest($2::bigint[]) AS o ("offset")
ON CONFLICT (partition, "offset") DO UPDATE SET redacted_at = excluded.redacted_at, redacted_by = excluded.redacted_by, reason = excluded.reason, cleared_at = NULL,
    unapplied = ARRAY(SELECT DISTINCT u.name FROM unnest(r.unapplied || excluded.unapplied) AS u (name))`
)

// offsetsAtOnce bounds a transaction, during which nothing is numbered.
const offsetsAtOnce = 100

// Redact erases what the records hold. They must be published, which it waits for, and a
// move of the log must be finished. The log is nil with Postgres alone. When it returns
// without an error, the log holds the replacements, or lacks the records: it waits until
// a streamer has published them. After an error some may be erased: it may be called again,
// and finishes then with the log what any call before has left, if only with no places.
func Redact(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, log unilog.Log, places []Place, order Order) (report Report, err error) {
	if err := schema.Check(); err != nil {
		return report, err
	}
	if order.Reason == "" {
		return report, errors.New("redaction: Order.Reason is required")
	}
	if order.Replacement == nil {
		order.Replacement = json.RawMessage(`{"redacted":true}`)
	}
	if err := isFinal(ctx, db, schema); err != nil {
		return report, postgres.Missing(ctx, db, schema.Name(), err, "places")
	}
	r := &redaction{db: db, schema: schema, log: log, order: order, offsets: map[int][]int64{}}
	for _, p := range places {
		r.offsets[p.Partition] = append(r.offsets[p.Partition], p.Offset)
	}
	for p, offsets := range r.offsets {
		slices.Sort(offsets)
		r.offsets[p] = slices.Compact(offsets)
		if err := r.awaitPublished(ctx, p, offsets[len(offsets)-1]); err != nil {
			return report, err
		}
		if _, _, err := r.unapplied(ctx, db, p, r.offsets[p]); err != nil { // before anything is erased
			return report, err
		}
	}
	return r.run(ctx)
}

// isFinal refuses while the log can be moved back to where it was.
func isFinal(ctx context.Context, db postgres.Querier, schema unilog.Schema) error {
	rows, _ := db.Query(ctx, schema.SQL(sqlIsFinal))
	final, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
	switch {
	case err != nil:
		return fmt.Errorf("see where the log is: %w", err)
	case !final:
		return errors.New("unilog: a move of the log is not finished, and the log where it was has the records, too: make it final, and delete that one, or move back, first")
	}
	return nil
}

// redaction is one that is under way.
type redaction struct {
	db     *pgxpool.Pool
	schema unilog.Schema
	log    unilog.Log
	order  Order
	// offsets are those of each partition, in their order.
	offsets map[int][]int64
}

func (r *redaction) run(ctx context.Context) (report Report, err error) {
	partitions := slices.Sorted(maps.Keys(r.offsets))
	for _, p := range partitions {
		for some := range slices.Chunk(r.offsets[p], offsetsAtOnce) {
			archived, parked, err := r.erase(ctx, p, some)
			if err != nil {
				return report, err
			}
			report.Archived, report.Parked = report.Archived+archived, report.Parked+parked
		}
	}
	if report.Emptied, err = r.finish(ctx); err != nil {
		return report, err
	}
	// A consumer may have parked meanwhile what it had in memory.
	for _, p := range partitions {
		parked, err := r.eraseParked(ctx, r.db, p, r.offsets[p])
		if err != nil {
			return report, err
		}
		report.Parked += parked
	}
	return report, nil
}

// awaitPublished waits until the log has had an offset: then no leader has it in memory
// that will still publish it.
func (r *redaction) awaitPublished(ctx context.Context, partition int, offset int64) error {
	for {
		var numbered, published int64
		err := r.db.QueryRow(ctx, r.schema.SQL(sqlHead), partition).Scan(&numbered, &published)
		switch {
		case errors.Is(err, pgx.ErrNoRows):
			return fmt.Errorf("unilog: there is no partition %d", partition)
		case err != nil:
			return fmt.Errorf("read how far the partition is: %w", err)
		case offset > numbered:
			return fmt.Errorf("unilog: there is no offset %d in partition %d yet: the head is %d", offset, partition, numbered)
		case offset <= published:
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("unilog: offset %d of partition %d is not published yet, and only then can be redacted: is a streamer running? %w", offset, partition, err)
		}
	}
}

func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(50 * time.Millisecond):
		return nil
	}
}

// erase erases what the database has of some records.
func (r *redaction) erase(ctx context.Context, partition int, offsets []int64) (archived, parked int, err error) {
	err = pgx.BeginFunc(ctx, r.db, func(tx pgx.Tx) (err error) {
		var batch pgx.Batch
		postgres.Bound(ctx, &batch)
		batch.Queue(postgres.SQLSettings)
		if err := tx.SendBatch(ctx, &batch).Close(); err != nil {
			return err
		}
		// Before the lock that numbering waits for: somebody may hold a dead letter.
		if parked, err = r.eraseParked(ctx, tx, partition, offsets); err != nil {
			return err
		}
		at, names, err := r.unapplied(ctx, tx, partition, offsets)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, r.schema.SQL(locks.SQLNumbering)); err != nil {
			return err
		}
		if err := isFinal(ctx, tx, r.schema); err != nil { // a move takes the lock, too
			return err
		}
		rows, _ := tx.Query(ctx, r.schema.SQL(sqlArchived), partition, offsets, string(r.order.Replacement), r.order.EraseKey)
		found, err := pgx.CollectRows(rows, pgx.RowTo[[]int64])
		if err != nil {
			return err
		}
		erased := slices.Concat(found...)
		archived = len(erased)
		for _, offset := range offsets {
			if slices.Contains(erased, offset) {
				continue
			}
			if err := r.left(ctx, tx, partition, offset); err != nil {
				return err
			}
		}
		_, err = tx.Exec(ctx, r.schema.SQL(sqlNote), partition, offsets, r.order.Reason, at, names)
		return err
	})
	if err != nil {
		return 0, 0, fmt.Errorf("redact the archive: %w", postgres.Explain(err))
	}
	return archived, parked, nil
}

// left says why the archive has a record that was not erased, if it has it.
func (r *redaction) left(ctx context.Context, tx pgx.Tx, partition int, offset int64) error {
	entries, err := archive.Read(ctx, tx, r.schema, partition, offset-1, offset, 1)
	switch {
	case err != nil:
		return err
	case len(entries) > 0:
		return fmt.Errorf("unilog: offset %d of partition %d is an entry of the log's own, without anybody's data", offset, partition)
	}
	return nil
}

// eraseParked erases what dead letters of this database have of some records.
func (r *redaction) eraseParked(ctx context.Context, db unilog.Execer, partition int, offsets []int64) (int, error) {
	if has, err := r.hasConsumers(ctx); err != nil || !has {
		return 0, err
	}
	tag, err := db.Exec(ctx, r.schema.SQL(sqlParked), partition, offsets, string(r.order.Replacement), r.order.EraseKey)
	if err != nil {
		return 0, fmt.Errorf("redact dead letters: %w", postgres.Explain(err))
	}
	return int(tag.RowsAffected()), nil
}

func (r *redaction) hasConsumers(ctx context.Context) (has bool, err error) {
	err = r.db.QueryRow(ctx, r.schema.SQL(sqlHasConsumers)).Scan(&has)
	return has, err
}

// unapplied returns which consumers get the replacement, or refuses.
func (r *redaction) unapplied(ctx context.Context, db postgres.Querier, partition int, offsets []int64) (at []int64, names []string, err error) {
	at, names = []int64{}, []string{}
	if has, err := r.hasConsumers(ctx); err != nil || !has {
		return at, names, err
	}
	rows, _ := db.Query(ctx, r.schema.SQL(sqlUnapplied), partition, offsets)
	e := UnappliedError{Place: Place{Partition: partition}}
	var first *UnappliedError
	_, err = pgx.ForEachRow(rows, []any{&e.Offset, &e.Consumer, &e.Checkpoint, &e.Parked}, func() error {
		at, names = append(at, e.Offset), append(names, e.Consumer)
		if found := e; first == nil {
			first = &found
		}
		return nil
	})
	if err == nil && first != nil && !r.order.Unapplied {
		err = first
	}
	return at, names, err
}
