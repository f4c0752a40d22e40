package dashboard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/status"
)

const (
	// countAtMost bounds the counting of staged records, of which there may be
	// millions, and a tenth of it that of a consumer's dead letters.
	countAtMost = 10_000
	// callTimeout bounds each look at a server but the audit's.
	callTimeout = time.Second
)

// sqlSample reads all of a sample but the log's head, in one snapshot. Below the
// low-water mark there are but dead rows of staged records. Partitions are added
// up.
//
// Index: staged_records_pkey, batches_pkey, dead_letters_pkey;
// partitions and checkpoints are a handful of rows.
const sqlSample = `
WITH partitions AS MATERIALIZED (
    SELECT count(*) AS number, sum(next_offset - 1)::bigint AS numbered, sum(published_offset)::bigint AS published,
        1 + sum(coalesce(
            (SELECT first_offset FROM unilog.batches AS b WHERE b.partition = q.partition ORDER BY b.partition, b.last_offset LIMIT 1),
            next_offset) - 1)::bigint AS first
    FROM unilog.partitions AS q
), leaders AS MATERIALIZED (
    SELECT l.objid, a.pid, a.application_name, a.backend_start
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid AND a.datname = current_database()
        AND l.classid::integer = ` + locks.Leader + ` AND l.objsubid = 2
%[1]s)
SELECT p.epoch, number, numbered, published,
    (SELECT count(*) FROM (
        SELECT FROM unilog.staged_records WHERE id > g.low_water ORDER BY id LIMIT $1 + 1
    ) AS counted),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - least(greatest(staged_at, '1970-01-01'), '9999-01-01'))
        FROM unilog.staged_records WHERE id > g.low_water ORDER BY id LIMIT 1), 0)::float8,
    first, (SELECT count(DISTINCT objid) FROM leaders),
    (SELECT json_build_object('pid', pid, 'application', coalesce(application_name, ''),
            'seconds', coalesce(extract(epoch FROM clock_timestamp() - backend_start), 0))
        FROM leaders WHERE objid = 0
        LIMIT 1),
    %[2]s
FROM unilog.log AS g CROSS JOIN unilog.partitions AS p CROSS JOIN partitions
WHERE p.partition = 0`

// Of consumers that keep their checkpoints in this database: the two parts that
// sqlSample lacks. The lag in seconds is that of the first record that a consumer has
// not applied; the latency is that of the last one that it has, in the partition
// which has moved last.
const (
	sqlConsumers = `), standing AS MATERIALIZED (
    SELECT name, q.partition, q.next_offset - 1 AS head, coalesce(c."offset", 0) AS "offset", c.updated_at,
        c.paused_by, c.trouble, 'has halted' || CASE WHEN number > 1 THEN ' in partition ' || q.partition ELSE '' END
            || coalesce(' at offset ' || c.rejected, '') AS halted
    FROM (SELECT DISTINCT name FROM unilog.checkpoints) AS n CROSS JOIN unilog.partitions AS q CROSS JOIN partitions
    LEFT JOIN unilog.checkpoints AS c USING (name, partition)
), consumers AS MATERIALIZED (
    SELECT name, sum(s."offset")::bigint AS checkpoint, sum(s.head - s."offset")::bigint AS lag,
        max(coalesce((
            SELECT extract(epoch FROM clock_timestamp() - b.staged_at[greatest(s."offset" - b.first_offset + 2, 1)])
            FROM unilog.batches AS b WHERE b.partition = s.partition AND b.last_offset > s."offset"
            ORDER BY b.partition, b.last_offset LIMIT 1
        ), 0)) AS lag_seconds,
        extract(epoch FROM clock_timestamp() - max(s.updated_at)) AS silent,
        coalesce(min(s.paused_by), '') AS paused, coalesce((array_agg(s.trouble ORDER BY s.partition) FILTER (WHERE s.trouble IS NOT NULL))[1], '') AS why,
        coalesce((array_agg(s.halted ORDER BY s.partition) FILTER (WHERE s.trouble IS NOT NULL))[1]
            || CASE WHEN count(s.trouble) > 1 THEN ' and in ' || count(s.trouble) - 1 || ' more' ELSE '' END, '') AS halted,
        sum((SELECT count(*) FROM (
            SELECT FROM unilog.dead_letters AS d
            WHERE d.consumer = name AND d.partition = s.partition AND d.discarded_at IS NULL
            ORDER BY d.consumer, d.partition, d."offset" LIMIT $1 / 10
        ) AS counted))::bigint AS dead_letters
    FROM standing AS s
    GROUP BY name
), latencies AS MATERIALIZED (
    SELECT name, (
            SELECT extract(epoch FROM s.updated_at - b.staged_at[s."offset" - b.first_offset + 1]) * 1000
            FROM unilog.batches AS b WHERE b.partition = s.partition AND b.last_offset >= s."offset"
            ORDER BY b.partition, b.last_offset LIMIT 1
        ) AS latency_ms
    FROM (SELECT DISTINCT ON (name) * FROM standing ORDER BY name, updated_at DESC NULLS LAST) AS s
`
	sqlAllConsumers = `(SELECT coalesce(json_agg(c ORDER BY c.name), '[]') FROM (SELECT * FROM consumers JOIN latencies USING (name)) AS c)`
)

var (
	sqlSampleWithConsumers = fmt.Sprintf(sqlSample, sqlConsumers, sqlAllConsumers)
	sqlSampleOfLog         = fmt.Sprintf(sqlSample, "", `'[]'::json`)
)

// sqlSettings makes large tables be read by their indexes, also before there are
// statistics of them.
const sqlSettings = postgres.SQLSettings + `, set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)`

const sqlHasConsumers = `SELECT to_regclass('unilog.checkpoints') IS NOT NULL`

// readPostgres reads all of a sample but the log's head. What it cannot read it
// leaves as it was.
func (d *Dashboard) readPostgres(ctx context.Context, s *sample) error {
	ctx, cancel := context.WithTimeout(ctx, d.callFor)
	defer cancel()
	var r sample
	err := pgx.BeginFunc(ctx, d.cfg.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlSettings); err != nil {
			return err
		}
		var consumers bool
		if err := tx.QueryRow(ctx, d.cfg.Schema.SQL(sqlHasConsumers)).Scan(&consumers); err != nil {
			return err
		}
		sql := sqlSampleOfLog
		if consumers {
			sql = sqlSampleWithConsumers
		}
		// Planned each time: a plan that was made while nothing was staged would scan
		// all of a backlog.
		return tx.QueryRow(ctx, d.cfg.Schema.SQL(sql), pgx.QueryExecModeCacheDescribe, countAtMost).
			Scan(&r.Epoch, &r.Partitions, &r.Numbered, &r.Published, &r.Staged, &r.StagedFor, &r.First, &r.Leaders, &r.Leader, &r.Consumers)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		err = errors.New(d.cfg.Schema.SQL("unilog.log or unilog.partitions has no row: was it emptied? migrate says what to do"))
	}
	if err != nil {
		return said("Postgres", err)
	}
	if r.Leaders < r.Partitions {
		r.Leader = nil
	}
	for i := range r.Consumers {
		c := &r.Consumers[i]
		c.Paused, c.Why = short(c.Paused), short(c.Why)
	}
	if r.MoreAre = r.Staged > countAtMost; r.MoreAre {
		r.Staged = countAtMost
	}
	r.Time, r.Redis, r.Head = s.Time, s.Redis, s.Head
	*s = r
	return nil
}

// readRedis adds up the heads of the log's partitions, of which so many are known.
func (d *Dashboard) readRedis(ctx context.Context, partitions int) (all int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, d.callFor)
	defer cancel()
	heads, err := status.Heads(ctx, d.cfg.Log, partitions)
	if err != nil {
		return 0, err
	}
	for _, head := range heads {
		all += head.Offset
	}
	return all, nil
}

// said says in one line of bounded length why a server cannot be read.
func said(server string, err error) error {
	if lost(err.Error()) {
		return fmt.Errorf("%s cannot be read: it does not answer", server)
	}
	return fmt.Errorf("%s cannot be read: %s", server, short(err.Error()))
}
