package cli

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Log is for looking into the log, and for handling it.
type Log struct {
	Tail   LogTail   `cmd:"" help:"Show the log's last entries, and with --follow those that come."`
	Get    LogGet    `cmd:"" help:"Show the entry at an offset."`
	Find   LogFind   `cmd:"" help:"Search the archive for records of a key, a kind or a time."`
	Stage  LogStage  `cmd:"" help:"Stage records, from flags or as lines of JSON."`
	Redact LogRedact `cmd:"" help:"Erase what records hold, in the archive, the log and dead letters. They keep their offsets."`
	Switch LogSwitch `cmd:"" help:"Move the log to another place or engine while everything runs."`
}

// Index: none, it is a row per partition.
const sqlPlaces = `
SELECT p.partition, p.next_offset - 1 AS numbered, p.published_offset AS published
FROM unilog.partitions AS p ORDER BY p.partition`

// sqlLogNow is what is true of the whole log.
const sqlLogNow = `
SELECT l.log_id::text, l.partitions, clock_timestamp(), g.generation, coalesce(g.url, ''), (SELECT count(*) FROM unilog.partitions)
FROM unilog.log AS l CROSS JOIN (SELECT generation, url FROM unilog.places ORDER BY generation DESC LIMIT 1) AS g`

// partitionNow is how far a partition is.
type partitionNow struct {
	Partition           int
	Numbered, Published int64
}

// logNow is what a command knows of the log when it begins.
type logNow struct {
	id         string
	active     int // partitions that get records
	now        time.Time
	generation int
	url        string
	count      int // of all partitions
	partitions []partitionNow
}

func lookAtLog(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema) (l logNow, err error) {
	err = db.QueryRow(ctx, schema.SQL(sqlLogNow)).Scan(&l.id, &l.active, &l.now, &l.generation, &l.url, &l.count)
	if err != nil {
		return l, fmt.Errorf("look at the log: %w", postgres.Missing(ctx, db, schema.Name(), err, "log", "partitions", "places"))
	}
	rows, _ := db.Query(ctx, schema.SQL(sqlPlaces))
	if l.partitions, err = pgx.CollectRows(rows, pgx.RowToStructByPos[partitionNow]); err != nil {
		return l, fmt.Errorf("look at the partitions: %w", postgres.Explain(err))
	}
	return l, nil
}

// in returns a partition, or says which there are.
func (l *logNow) in(partition int) (partitionNow, error) {
	if partition >= 0 && partition < len(l.partitions) {
		return l.partitions[partition], nil
	}
	if len(l.partitions) == 1 {
		return partitionNow{}, fmt.Errorf("there is no partition %d: the log has partition 0 alone", partition)
	}
	return partitionNow{}, fmt.Errorf("there is no partition %d: the log has partitions 0 to %d", partition, len(l.partitions)-1)
}

// note tells who watches what is not part of the output.
func note(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
