// Package retention decides what has to be kept: in the log when it is trimmed, brought
// back or moved, and in the archive. It asks the database each time: what it has read
// before may be stale.
package retention

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// The defaults of a streamer's configuration.
const (
	KeepRecords    = 10_000
	KeepBytes      = 256 << 20
	ConsumerExpiry = 7 * 24 * time.Hour
)

// Rule says how much is kept. Its fields are those of streamer.Config.
type Rule struct {
	Schema         unilog.Schema
	KeepRecords    int64
	KeepBytes      int64
	ConsumerExpiry time.Duration
	// KeepForReports counts those in table readers, too.
	KeepForReports bool
	// Watch sees to it that no consumer expires by the database's clock alone. Without it,
	// as for a single look that deletes nothing, one does.
	Watch *Watch
}

const (
	// Whether consumers keep checkpoints in this database is asked each time: one may
	// have come, and its tables with it. So is whether a view has come in the place of a
	// table, of which nobody knows what it hides. Index: pg_class_relname_nsp_index.
	sqlTables = `
SELECT coalesce(bool_or(c.relname = 'checkpoints'), false),
    coalesce(array_agg(c.relname::text) FILTER (WHERE c.relkind NOT IN ('r', 'p')), '{}')
FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname IN ('staged_records', 'log', 'partitions', 'batches', 'places', 'readers', 'checkpoints')`

	// Who needs what, as heard: consumers of this database, and those elsewhere that have
	// reported. A consumer that is known from its checkpoints counts by these alone.
	// Index: a handful of rows, read whole.
	sqlHeard          = `SELECT name, partition, "offset", updated_at AS heard FROM unilog.checkpoints`
	sqlHeardElsewhere = `SELECT name, partition, "offset", reported_at AS heard FROM unilog.readers`
	sqlHeardBoth      = sqlHeard + ` UNION ALL ` + sqlHeardElsewhere + ` WHERE name NOT IN (SELECT name FROM unilog.checkpoints)`

	// sqlNeeds lists how far each partition is published, and how far each of them has
	// come in it, but for those of $2 that are silent for longer than $1 seconds. One that
	// has no row for a partition has not begun it. Index: a handful of rows, read whole.
	sqlNeeds = `
WITH heard AS MATERIALIZED (%s)
SELECT p.partition, p.published_offset, (
    SELECT min(coalesce(c."offset", 0))
    FROM (
        SELECT name FROM heard GROUP BY name
        HAVING max(heard) > clock_timestamp() - make_interval(secs => $1) OR name <> ALL ($2::text[])
    ) AS n LEFT JOIN heard AS c ON c.name = n.name AND c.partition = p.partition
), clock_timestamp()
FROM unilog.partitions AS p
ORDER BY p.partition`

	sqlNeedsAlone = `SELECT partition, published_offset, NULL::bigint, clock_timestamp() FROM unilog.partitions WHERE $1::float8 > 0 AND $2::text[] IS NOT NULL ORDER BY partition`

	// Index: a handful of rows, read whole.
	sqlSilent = `
SELECT name, min("offset"), max(heard) FROM (%s) AS h GROUP BY name
HAVING max(heard) <= clock_timestamp() - make_interval(secs => $1)`

	// SQLFit returns the last offset of a partition, after $2 and up to $3, after which
	// more than $4 bytes were numbered, or $2. Index: batches_pkey.
	SQLFit = `
SELECT coalesce(max(last_offset), $2)
FROM (
    SELECT last_offset, sum(bytes) OVER (ORDER BY last_offset DESC ROWS UNBOUNDED PRECEDING) - bytes AS later
    FROM unilog.batches WHERE partition = $1 AND last_offset > $2 AND last_offset <= $3
) AS b
WHERE later >= $4`
)

// logExcess bounds what the log keeps for consumers that are behind, in multiples of
// KeepRecords. The archive keeps the rest for them.
const logExcess = 100

// Needs say what consumers need.
type Needs struct {
	Partitions map[int]Need
	// Expired are consumers that nothing is kept for, and where they are.
	Expired map[string]int64
	// Now is the database's clock.
	Now time.Time
}

// Need is that of a partition.
type Need struct {
	Published int64
	// Applied is the offset that all consumers have come to that count, or nil if there are
	// none.
	Applied *int64
}

// Look asks the database what consumers need now.
func (r Rule) Look(ctx context.Context, db *pgxpool.Pool) (Needs, error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	found := Needs{Partitions: map[int]Need{}, Expired: map[string]int64{}}
	expiry := r.ConsumerExpiry.Seconds()
	var consumers bool
	var replaced []string
	if err := db.QueryRow(ctx, sqlTables, r.Schema.Name()).Scan(&consumers, &replaced); err != nil {
		return found, fmt.Errorf("look for consumers: %w", err)
	}
	if len(replaced) > 0 {
		return found, &postgres.HiddenError{Schema: r.Schema.Name(), Replaced: replaced}
	}
	sql, names := sqlNeedsAlone, []string{}
	if heard := r.heard(consumers); heard != "" {
		sql = fmt.Sprintf(sqlNeeds, heard)
		silent, err := r.silent(ctx, db, heard)
		if err != nil {
			return found, err
		}
		for name, c := range r.Watch.expired(silent, time.Now()) {
			found.Expired[name], names = c.offset, append(names, name)
		}
	}
	var partition int
	var n Need
	err := all(ctx, db, r.Schema.SQL(sql), []any{expiry, names}, []any{&partition, &n.Published, &n.Applied, &found.Now}, func() error {
		found.Partitions[partition] = n
		return nil
	})
	if err != nil {
		return found, fmt.Errorf("read the checkpoints: %w", postgres.Explain(err))
	}
	return found, nil
}

// heard is the query for who needs what; none, if nobody counts.
func (r Rule) heard(consumers bool) string {
	switch {
	case consumers && r.KeepForReports:
		return sqlHeardBoth
	case consumers:
		return sqlHeard
	case r.KeepForReports:
		return sqlHeardElsewhere
	}
	return ""
}

// silent returns the consumers that were silent for longer than the expiry, by the
// database's clock.
func (r Rule) silent(ctx context.Context, db *pgxpool.Pool, heard string) (map[string]silence, error) {
	found := map[string]silence{}
	var name string
	var c silence
	args := []any{r.ConsumerExpiry.Seconds()}
	err := all(ctx, db, r.Schema.SQL(fmt.Sprintf(sqlSilent, heard)), args, []any{&name, &c.offset, &c.heard}, func() error { found[name] = c; return nil })
	if err != nil {
		return nil, fmt.Errorf("read who is silent: %w", postgres.Explain(err))
	}
	return found, nil
}

// all reads a query's rows, and fails if some are hidden: a consumer that is not seen is
// not one that is gone.
func all(ctx context.Context, db *pgxpool.Pool, sql string, args, into []any, each func() error) error {
	batch := &pgx.Batch{}
	batch.Queue(postgres.SQLSettings)
	batch.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, into, each)
		return err
	})
	return db.SendBatch(ctx, batch).Close()
}

// Archived returns the first offset that the archive has to keep, however old it is.
func (r Rule) Archived(n Need) int64 {
	least := n.Published - r.KeepRecords
	if n.Applied != nil {
		least = min(least, *n.Applied)
	}
	return max(least, 0) + 1
}

// Logged returns the last offset that the log of a partition need not keep.
func (r Rule) Logged(ctx context.Context, db *pgxpool.Pool, partition int, n Need) (upTo int64, err error) {
	upTo = max(r.Archived(n)-1, n.Published-logExcess*max(r.KeepRecords, 1), 0)
	// What follows may be too much all the same.
	batch := &pgx.Batch{}
	batch.Queue(postgres.SQLSettings)
	batch.Queue(r.Schema.SQL(SQLFit), partition, upTo, n.Published, r.KeepBytes).QueryRow(func(row pgx.Row) error { return row.Scan(&upTo) })
	if err := db.SendBatch(ctx, batch).Close(); err != nil {
		return 0, fmt.Errorf("reckon what the log is to keep: %w", postgres.Explain(err))
	}
	first, err := archive.First(ctx, db, r.Schema, partition)
	if err != nil {
		return 0, err
	}
	return max(upTo, min(first-1, n.Published)), nil
}
