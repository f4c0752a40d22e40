package reader

import (
	"context"
	"log/slog"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
)

// ReportPause is the time between two reports of a reader that gets on. One that does not
// move reports at each heartbeat.
const ReportPause = 5 * time.Second

const (
	// Index: pg_class_relname_nsp_index.
	sqlHasLog = `SELECT to_regclass('unilog.log') IS NOT NULL`
	// Index: none, it is one row.
	sqlLogID = `SELECT log_id::text FROM unilog.log`
	// Index: checkpoints_pkey.
	sqlPlaces = `SELECT partition, "offset", position, coalesce(log_id, '') FROM unilog.checkpoints WHERE name = $1`
)

// Reporting lets the log know of a consumer or deliverer whose checkpoints are not in the
// log's own database, where its streamers would see them. It is not safe for concurrent use.
type Reporting struct {
	Name string
	Log  unilog.Log
	// Places returns the checkpoints of the log of an id, and whether they are in the log's
	// own database, which needs no report.
	Places func(ctx context.Context, logID string) (at map[int]unilog.Cursor, seen bool, err error)
	// Failed is told of a report that could not be made. It stops nobody.
	Failed func(error)
	Logger *slog.Logger

	last map[int]unilog.Cursor
	at   time.Time // of the last report
	next time.Time // before which there is nothing to do
}

// Keep reports until ctx ends.
func (r *Reporting) Keep(ctx context.Context) {
	for ; ctx.Err() == nil; loop.Sleep(ctx, ReportPause) {
		r.Once(ctx)
	}
}

// Once reports, if it is time to.
func (r *Reporting) Once(ctx context.Context) {
	log, ok := r.Log.(unilog.Reporter)
	if !ok || time.Now().Before(r.next) {
		return
	}
	r.next = time.Now().Add(ReportPause / 2) // less than a pause of Keep's
	bounded, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := r.report(bounded, log); err != nil && ctx.Err() == nil {
		r.Logger.Debug("could not report to the log", "err", err)
		r.Failed(err)
	}
}

func (r *Reporting) report(ctx context.Context, log unilog.Reporter) error {
	head, err := r.Log.Head(ctx, 0)
	if err != nil || head.LogID == "" {
		return err
	}
	at, seen, err := r.Places(ctx, head.LogID)
	if err != nil || len(at) == 0 {
		return err
	}
	if seen {
		r.next = time.Now().Add(loop.Heartbeat)
		return nil
	}
	if maps.Equal(at, r.last) && time.Since(r.at) < loop.Heartbeat {
		return nil
	}
	if err := log.Report(ctx, r.Name, at); err != nil {
		return err
	}
	r.last, r.at = at, time.Now()
	return nil
}

// Places returns the checkpoints of a name in a database, as [Reporting] wants them.
func Places(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, name, logID string) (at map[int]unilog.Cursor, seen bool, err error) {
	var own bool
	if err := db.QueryRow(ctx, schema.SQL(sqlHasLog)).Scan(&own); err != nil {
		return nil, false, err
	}
	id := ""
	if own {
		if err := db.QueryRow(ctx, schema.SQL(sqlLogID)).Scan(&id); err != nil {
			return nil, false, err
		}
	}
	at = map[int]unilog.Cursor{}
	var partition int
	var c unilog.Cursor
	var of string
	rows, _ := db.Query(ctx, schema.SQL(sqlPlaces), name)
	_, err = pgx.ForEachRow(rows, []any{&partition, &c.Offset, &c.Position, &of}, func() error {
		if of == "" || of == logID { // that of another log is no place in this one
			at[partition] = c
		}
		return nil
	})
	return at, id == logID, err
}
