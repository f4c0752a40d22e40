package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// Index: checkpoints_pkey, for all of these.
const (
	// sqlRegister adds what is missing of the first partitions, unless the name is a
	// deliverer's: at $3, by partition, or at the beginning. Rows that are there it leaves
	// alone: it would wait for whoever changes one.
	sqlRegister = `
INSERT INTO unilog.checkpoints (name, partition, "offset", began, log_id, paused_at, paused_by)
SELECT $1, p.partition, p.after, p.after, CASE WHEN p.after > 0 THEN $4 END, paused.paused_at, paused.paused_by
FROM (
    SELECT partition, coalesce(($3::bigint[])[partition + 1], 0) AS after FROM generate_series(0, $2 - 1) AS n (partition)
) AS p LEFT JOIN (
    SELECT paused_at, paused_by FROM unilog.checkpoints WHERE name = $1 AND paused_at IS NOT NULL LIMIT 1
) AS paused ON true
WHERE NOT EXISTS (SELECT FROM unilog.checkpoints AS c WHERE c.name = $1 AND c.partition = p.partition)
    AND NOT EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1 AND outside)
ON CONFLICT (name, partition) DO NOTHING`

	// Paused is who is so in any partition: Pause does not see one that is registered at
	// the same time.
	sqlCheckpoint = `
SELECT c."offset", c.position, coalesce(c.log_id, ''), c.outside, c.troubled_at IS NOT NULL, paused.at, coalesce(paused.by, '')
FROM unilog.checkpoints AS c CROSS JOIN (
    SELECT min(paused_at) AS at, min(paused_by) AS by FROM unilog.checkpoints WHERE name = $1
) AS paused
WHERE c.name = $1 AND c.partition = $2`

	sqlIsNew = `SELECT NOT EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1)`
)

// checkpoint is a consumer's row of one partition in table checkpoints.
type checkpoint struct {
	db        *pgxpool.Pool
	schema    unilog.Schema
	name      string
	partition int
	// logID names the log that the checkpoint belongs to; it is empty until that is
	// known, and saved when the checkpoint moves on.
	logID string
	// registered is for how many partitions there were checkpoints, and loaded says that
	// this one was.
	registered *atomic.Int64
	loaded     bool
	troubled   bool // it has a note that the partition has halted
	// enroll registers the consumer in so many partitions at least.
	enroll func(ctx context.Context, number int) error
}

var _ reader.Checkpoint = (*checkpoint)(nil)

// Load reads the checkpoint, and registers a consumer that has had none.
func (c *checkpoint) Load(ctx context.Context) (unilog.Cursor, error) {
	at, err := c.read(ctx)
	switch {
	case !errors.Is(err, pgx.ErrNoRows):
	case c.loaded || c.registered != nil && int64(c.partition) < c.registered.Load():
		if err = postgres.CheckVisible(ctx, c.db, c.schema.Name(), "checkpoints"); err == nil {
			err = unilog.ErrCheckpointGone
		}
	default:
		at, err = c.register(ctx)
	}
	if err != nil {
		return at, fmt.Errorf("read the checkpoint: %w", err)
	}
	c.loaded = true
	return at, nil
}

// register makes a checkpoint, unless there is one that is hidden.
func (c *checkpoint) register(ctx context.Context) (at unilog.Cursor, err error) {
	if err := postgres.CheckVisible(ctx, c.db, c.schema.Name(), "checkpoints"); err != nil {
		return at, err
	}
	if err := c.enroll(ctx, c.partition+1); err != nil {
		return at, err
	}
	if at, err = c.read(ctx); errors.Is(err, pgx.ErrNoRows) {
		err = unilog.ErrDeliverersName
	}
	return at, err
}

func (c *checkpoint) read(ctx context.Context) (at unilog.Cursor, err error) {
	conn, err := c.db.Acquire(ctx)
	if err != nil {
		return at, err
	}
	defer conn.Release()
	if err := postgres.CheckEncoding(conn.Conn()); err != nil { // its name, for one, would be another
		return at, err
	}
	outside := false
	var since *time.Time
	paused := &unilog.PausedError{Consumer: c.name}
	err = conn.QueryRow(ctx, c.schema.SQL(sqlCheckpoint), c.name, c.partition).Scan(&at.Offset, &at.Position, &c.logID, &outside, &c.troubled, &since, &paused.By)
	switch {
	case err == nil && outside:
		err = unilog.ErrDeliverersName
	case err == nil && since != nil:
		paused.Since = *since
		err = paused
	}
	return at, err
}

// CheckLog takes a checkpoint that belongs to no log so far for one of this log. An
// empty id says nothing. A deliverer refuses it, since what it has delivered cannot
// be taken back.
func (c *checkpoint) CheckLog(logID string) error {
	switch {
	case logID == "" || logID == c.logID:
		return nil
	case c.logID == "":
		c.logID = logID
		return nil
	}
	return &unilog.ForeignLogError{Consumer: c.name, Partition: c.partition, LogID: c.logID, Theirs: logID}
}

// CheckSource does the same: a source and its log have one id.
func (c *checkpoint) CheckSource(logID string) error { return c.CheckLog(logID) }

// register registers the consumer for so many partitions, so that the archive is kept
// for it from now on in all of them, also in those that are not read yet.
func (c *Consumer) register(ctx context.Context, number int) (err error) {
	if int64(number) <= c.registered.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if c.cfg.Start == (unilog.Start{}) {
		_, err = c.cfg.DB.Exec(ctx, c.cfg.Schema.SQL(sqlRegister), c.cfg.Name, number, nil, nil)
	} else {
		err = c.begin(ctx, number)
	}
	if err != nil {
		return fmt.Errorf("register the consumer: %w", postgres.Explain(err))
	}
	c.registered.Store(int64(number))
	return nil
}

// begin registers a consumer that may be new at its start. Processes do so one after the
// other: the first one says where all of the partitions begin that there are.
func (c *Consumer) begin(ctx context.Context, number int) error {
	sql := c.cfg.Schema.SQL
	return pgx.BeginFunc(ctx, c.cfg.DB, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql(locks.SQLIntervention), c.cfg.Name); err != nil {
			return err
		}
		isNew := false
		if err := tx.QueryRow(ctx, sql(sqlIsNew), c.cfg.Name).Scan(&isNew); err != nil {
			return err
		}
		var after []int64
		var logID *string
		if isNew {
			var archive postgres.Querier
			switch c.cfg.Archive {
			case nil:
			case c.cfg.DB:
				archive = tx // there may be no other connection
			default:
				archive = c.cfg.Archive
			}
			at, id, err := reader.Begin(ctx, archive, c.cfg.Log, c.cfg.Schema, c.cfg.Name, c.cfg.Start)
			if err != nil {
				return err
			}
			after, logID = at, &id
			c.log.Info("beginning after", "offsets", after)
		}
		_, err := tx.Exec(ctx, sql(sqlRegister), c.cfg.Name, max(number, len(after)), after, logID)
		return err
	})
}

// enroll registers the consumer in so many partitions at least, and where it may have to
// begin elsewhere, in all that there are.
func (c *Consumer) enroll(ctx context.Context, number int) error {
	if c.cfg.Start != (unilog.Start{}) {
		counted, err := c.count(ctx)
		if err != nil {
			return err
		}
		number = max(number, counted)
	}
	return c.register(ctx, number)
}

// beat shows that the consumer is alive, in all its partitions.
func (c *Consumer) beat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if err := reader.Beat(ctx, c.cfg.DB, c.cfg.Schema, c.cfg.Name); err != nil {
		return err
	}
	c.heartbeat = time.Now()
	return nil
}
