package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// Index: checkpoints_pkey, for all of these.
const (
	sqlRegister = `
INSERT INTO checkpoints (name, partition) VALUES ($1, $2)
ON CONFLICT (name, partition) DO NOTHING`

	sqlCheckpoint = `SELECT "offset", position, coalesce(log_id, ''), outside FROM checkpoints WHERE name = $1 AND partition = $2`

	// A row that is locked needs no sign of life: whoever holds it is alive.
	sqlBeat = `
UPDATE checkpoints AS c SET updated_at = clock_timestamp()
FROM (SELECT FROM checkpoints WHERE name = $1 AND partition = $2 FOR UPDATE SKIP LOCKED) AS free
WHERE c.name = $1 AND c.partition = $2`
)

// checkpoint is a consumer's row of one partition in table checkpoints.
type checkpoint struct {
	db        *pgxpool.Pool
	name      string
	partition int
	// logID names the log that the checkpoint belongs to; it is empty until that is
	// known, and saved when the checkpoint moves on.
	logID string
	// heartbeat is when this process last wrote to the row.
	heartbeat time.Time
}

var _ reader.Checkpoint = (*checkpoint)(nil)

// Load reads the checkpoint, and registers a consumer that has none.
func (c *checkpoint) Load(ctx context.Context) (unilog.Cursor, error) {
	at, err := c.read(ctx)
	if errors.Is(err, pgx.ErrNoRows) {
		if _, err = c.db.Exec(ctx, sqlRegister, c.name, c.partition); err == nil {
			at, err = c.read(ctx)
		}
	}
	if err != nil {
		return at, fmt.Errorf("read the checkpoint: %w", err)
	}
	if c.heartbeat.IsZero() {
		c.heartbeat = time.Now()
	}
	return at, nil
}

func (c *checkpoint) read(ctx context.Context) (at unilog.Cursor, err error) {
	outside := false
	err = c.db.QueryRow(ctx, sqlCheckpoint, c.name, c.partition).Scan(&at.Offset, &at.Position, &c.logID, &outside)
	if err == nil && outside {
		err = unilog.ErrDeliverersName
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

// beat shows from time to time that a consumer without work is alive.
func (c *checkpoint) beat(ctx context.Context) error {
	if time.Since(c.heartbeat) < loop.Heartbeat {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if _, err := c.db.Exec(ctx, sqlBeat, c.name, c.partition); err != nil {
		return fmt.Errorf("show that the consumer is alive: %w", err)
	}
	c.heartbeat = time.Now()
	return nil
}
