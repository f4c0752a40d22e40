package dashboard

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// countAtMost bounds the counting of staged records, of which there may be
	// millions, and a tenth of it that of a consumer's dead letters.
	countAtMost = 10_000
	// callTimeout bounds each look at a server but the audit's.
	callTimeout = time.Second
)

// sqlSample reads all of a sample but the log's head, in one snapshot. Below the
// low-water mark there are but dead rows of staged records.
//
// Index: staged_log_records_pkey, log_records_pkey, dead_letters_pkey;
// log_partitions and checkpoints are a handful of rows.
const sqlSample = `
SELECT p.epoch, p.next_offset - 1, p.published_offset,
    (SELECT count(*) FROM (
        SELECT FROM staged_log_records WHERE id > p.low_water ORDER BY id LIMIT $1 + 1
    ) AS counted),
    coalesce((SELECT extract(epoch FROM clock_timestamp() - staged_at)
        FROM staged_log_records WHERE id > p.low_water ORDER BY id LIMIT 1), 0)::float8,
    coalesce((SELECT "offset" FROM log_records WHERE partition = 0 ORDER BY partition, "offset" LIMIT 1), next_offset),
    (SELECT json_build_object('pid', a.pid, 'application', coalesce(a.application_name, ''),
            'seconds', coalesce(extract(epoch FROM clock_timestamp() - a.backend_start), 0))
        FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid)
        WHERE l.locktype = 'advisory' AND l.granted AND l.database = a.datid AND a.datname = current_database()
            AND l.classid = 1970040679 AND l.objid = 0 AND l.objsubid = 2
        LIMIT 1),
    (SELECT coalesce(json_agg(json_build_object(
            'name', c.name, 'checkpoint', c."offset", 'lag', p.next_offset - 1 - c."offset",
            'lag_seconds', coalesce((SELECT extract(epoch FROM clock_timestamp() - r.staged_at) FROM log_records AS r
                WHERE r.partition = 0 AND r."offset" > c."offset" ORDER BY r.partition, r."offset" LIMIT 1), 0),
            'silent', extract(epoch FROM clock_timestamp() - c.updated_at),
            'dead_letters', (SELECT count(*) FROM (
                SELECT FROM dead_letters AS d
                WHERE d.consumer = c.name AND d.partition = 0 AND d.discarded_at IS NULL
                ORDER BY d.consumer, d.partition, d."offset" LIMIT $1 / 10
            ) AS counted),
            'latency_ms', (SELECT extract(epoch FROM c.updated_at - r.staged_at) * 1000 FROM log_records AS r
                WHERE r.partition = 0 AND r."offset" = c."offset")
        ) ORDER BY c.name), '[]')
        FROM checkpoints AS c WHERE c.partition = 0)
FROM log_partitions AS p
WHERE p.partition = 0`

// readPostgres reads all of a sample but the log's head. What it cannot read it
// leaves as it was.
func (d *Dashboard) readPostgres(ctx context.Context, s *sample) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var r sample
	// Planned each time: a plan that was made while nothing was staged would scan
	// all of a backlog.
	err := d.cfg.DB.QueryRow(ctx, sqlSample, pgx.QueryExecModeCacheDescribe, countAtMost).
		Scan(&r.Epoch, &r.Numbered, &r.Published, &r.Staged, &r.StagedFor, &r.First, &r.Leader, &r.Consumers)
	if err != nil {
		return said("Postgres", err)
	}
	if r.MoreAre = r.Staged > countAtMost; r.MoreAre {
		r.Staged = countAtMost
	}
	r.Time, r.Redis, r.Head = s.Time, s.Redis, s.Head
	*s = r
	return nil
}

// readRedis reads the log's head.
func (d *Dashboard) readRedis(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	head, err := d.cfg.Log.Head(ctx, 0)
	if err != nil {
		return 0, said("Redis", err)
	}
	return head.Offset, nil
}

// said says in one line of bounded length why a server cannot be read.
func said(server string, err error) error {
	if lost(err.Error()) {
		return fmt.Errorf("%s cannot be read: it does not answer", server)
	}
	return fmt.Errorf("%s cannot be read: %s", server, short(err.Error()))
}
