package dashboard

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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
// up; the latency is that of the one that a consumer has applied last.
//
// Index: staged_log_records_pkey, log_records_pkey, dead_letters_pkey;
// log_partitions and checkpoints are a handful of rows.
const sqlSample = `
WITH partitions AS MATERIALIZED (
    SELECT count(*) AS number, sum(next_offset - 1)::bigint AS numbered, sum(published_offset)::bigint AS published,
        1 + sum(coalesce(
            (SELECT "offset" FROM log_records AS r WHERE r.partition = q.partition ORDER BY r.partition, r."offset" LIMIT 1),
            next_offset) - 1)::bigint AS first
    FROM log_partitions AS q
), leaders AS MATERIALIZED (
    SELECT l.objid, a.pid, a.application_name, a.backend_start
    FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid AND a.datname = current_database()
        AND l.classid = 1970040679 AND l.objsubid = 2
%[1]s)
SELECT p.epoch, number, numbered, published,
    (SELECT count(*) FROM (
        SELECT FROM staged_log_records WHERE id > p.low_water ORDER BY id LIMIT $1 + 1
    ) AS counted),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - staged_at)
        FROM staged_log_records WHERE id > p.low_water ORDER BY id LIMIT 1), 0)::float8,
    first, (SELECT count(DISTINCT objid) FROM leaders),
    (SELECT json_build_object('pid', pid, 'application', coalesce(application_name, ''),
            'seconds', coalesce(extract(epoch FROM clock_timestamp() - backend_start), 0))
        FROM leaders WHERE objid = 0
        LIMIT 1),
    %[2]s
FROM log_partitions AS p CROSS JOIN partitions
WHERE p.partition = 0`

// Of consumers that keep their checkpoints in this database: the two parts that
// sqlSample lacks.
const (
	sqlConsumers = `), consumers AS MATERIALIZED (
    SELECT name, sum(coalesce(c."offset", 0))::bigint AS checkpoint, sum(q.next_offset - 1 - coalesce(c."offset", 0))::bigint AS lag,
        max(coalesce((SELECT extract(epoch FROM clock_timestamp() - r.staged_at) FROM log_records AS r
            WHERE r.partition = q.partition AND r."offset" > coalesce(c."offset", 0) ORDER BY r.partition, r."offset" LIMIT 1), 0)) AS lag_seconds,
        extract(epoch FROM clock_timestamp() - max(c.updated_at)) AS silent,
        sum((SELECT count(*) FROM (
            SELECT FROM dead_letters AS d
            WHERE d.consumer = name AND d.partition = q.partition AND d.discarded_at IS NULL
            ORDER BY d.consumer, d.partition, d."offset" LIMIT $1 / 10
        ) AS counted))::bigint AS dead_letters,
        (array_agg((SELECT extract(epoch FROM c.updated_at - r.staged_at) * 1000 FROM log_records AS r
            WHERE r.partition = q.partition AND r."offset" = c."offset") ORDER BY c.updated_at DESC NULLS LAST))[1] AS latency_ms
    FROM (SELECT DISTINCT name FROM checkpoints) AS n CROSS JOIN log_partitions AS q LEFT JOIN checkpoints AS c USING (name, partition)
    GROUP BY name
`
	sqlAllConsumers = `(SELECT coalesce(json_agg(c ORDER BY c.name), '[]') FROM consumers AS c)`
)

var (
	sqlSampleWithConsumers = fmt.Sprintf(sqlSample, sqlConsumers, sqlAllConsumers)
	sqlSampleOfLog         = fmt.Sprintf(sqlSample, "", `'[]'::json`)
)

const sqlHasConsumers = `SELECT to_regclass('checkpoints') IS NOT NULL`

// sqlNoJIT keeps Postgres from compiling the statement, which takes seconds where
// there are many chunks. It lasts for the transaction.
const sqlNoJIT = `SELECT set_config('jit', 'off', true)`

// readPostgres reads all of a sample but the log's head. What it cannot read it
// leaves as it was.
func (d *Dashboard) readPostgres(ctx context.Context, s *sample) error {
	ctx, cancel := context.WithTimeout(ctx, d.callFor)
	defer cancel()
	var r sample
	err := pgx.BeginFunc(ctx, d.cfg.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sqlNoJIT); err != nil {
			return err
		}
		var consumers bool
		if err := tx.QueryRow(ctx, sqlHasConsumers).Scan(&consumers); err != nil {
			return err
		}
		sql := sqlSampleOfLog
		if consumers {
			sql = sqlSampleWithConsumers
		}
		// Planned each time: a plan that was made while nothing was staged would scan
		// all of a backlog.
		return tx.QueryRow(ctx, sql, pgx.QueryExecModeCacheDescribe, countAtMost).
			Scan(&r.Epoch, &r.Partitions, &r.Numbered, &r.Published, &r.Staged, &r.StagedFor, &r.First, &r.Leaders, &r.Leader, &r.Consumers)
	})
	if err != nil {
		return said("Postgres", err)
	}
	if r.Leaders < r.Partitions {
		r.Leader = nil
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
		return 0, said("Redis", err)
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
