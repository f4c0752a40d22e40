package deliverer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// Checkpoints keep how far deliverers have come. [PostgresCheckpoints] and
// [FileCheckpoints] are implementations. Implementations are safe for concurrent use.
//
// [Config.Start] lets a deliverer begin elsewhere than at the first record; with other
// implementations than these, call Load, and then Save from there, before it first runs.
type Checkpoints interface {
	// Load returns the checkpoint, the zero Cursor if there is none. It returns a
	// [ForeignCheckpointError] if the name's checkpoint belongs to another log, and may
	// return a [unilog.PausedError]: then nothing is delivered until an intervention.
	Load(ctx context.Context, key CheckpointKey) (unilog.Cursor, error)

	// Save moves the checkpoint from one place to another. If it is not at the offset
	// of from any more, Save changes nothing and returns [ErrOvertaken]. If from and to
	// are the same, Save shows that the deliverer is alive. After any other error it is
	// not known whether the checkpoint was moved.
	Save(ctx context.Context, key CheckpointKey, from, to unilog.Cursor) error
}

// CheckpointKey names a checkpoint.
type CheckpointKey struct {
	// Name is the name of the deliverer.
	Name string
	// LogID names the log that was delivered; see [unilog.Head].
	LogID     string
	Partition int
}

// ErrOvertaken says that another instance has moved a checkpoint.
var ErrOvertaken = errors.New("unilog: another instance has moved the checkpoint")

// ForeignCheckpointError says that a checkpoint belongs to another log, whose offsets
// are those of other records.
type ForeignCheckpointError struct {
	Key CheckpointKey
	// Theirs is the log_id that the checkpoint belongs to. It is empty if the
	// checkpoint is that of a [github.com/rocketrides/unilog/consumer.Consumer].
	Theirs string
}

func (e *ForeignCheckpointError) Error() string {
	if e.Theirs == "" {
		return fmt.Sprintf("unilog: %s is the name of a consumer with a state in this database: give the deliverer another name", e.Key.Name)
	}
	return fmt.Sprintf("unilog: the checkpoint of %s in partition %d belongs to another log (its log_id is %s, this log's is %s): "+
		"give the deliverer another name, and another file if it has one, or, to deliver all of this log, delete the checkpoint",
		e.Key.Name, e.Key.Partition, e.Theirs, e.Key.LogID)
}

const (
	// Index: checkpoints_pkey, for all of these.
	sqlRegisterDeliverer = `
INSERT INTO unilog.checkpoints (name, partition, log_id, outside, paused_at, paused_by)
SELECT $1, $2::integer, $3, true, min(paused_at), min(paused_by) FROM unilog.checkpoints WHERE name = $1
ON CONFLICT (name, partition) DO NOTHING`

	// Paused is who is so in any partition, as for a consumer.
	sqlDelivered = `
SELECT c."offset", c.position, CASE WHEN c.outside THEN c.log_id ELSE '' END, paused.at, coalesce(paused.by, '')
FROM unilog.checkpoints AS c CROSS JOIN (
    SELECT min(paused_at) AS at, min(paused_by) AS by FROM unilog.checkpoints WHERE name = $1
) AS paused
WHERE c.name = $1 AND c.partition = $2`

	sqlSaveDelivered = `
UPDATE unilog.checkpoints SET "offset" = $5, position = $6, updated_at = clock_timestamp(), trouble = NULL, troubled_at = NULL, rejected = NULL
WHERE name = $1 AND partition = $2 AND outside AND log_id = $3 AND "offset" = $4`
)

// PostgresCheckpoints keeps checkpoints in the table checkpoints of a database, which
// the migration set consumer creates. In the source's database they keep the streamer
// from dropping records that are not delivered, as those of consumers do.
func PostgresCheckpoints(db *pgxpool.Pool) Checkpoints { return PostgresCheckpointsIn(db, "") }

// PostgresCheckpointsIn is [PostgresCheckpoints] for tables that are in a schema.
func PostgresCheckpointsIn(db *pgxpool.Pool, schema unilog.Schema) Checkpoints {
	return postgresCheckpoints{db, schema}
}

type postgresCheckpoints struct {
	db     *pgxpool.Pool
	schema unilog.Schema
}

func (c postgresCheckpoints) Load(ctx context.Context, key CheckpointKey) (at unilog.Cursor, err error) {
	at, theirs, err := c.load(ctx, key)
	if errors.Is(err, pgx.ErrNoRows) {
		if err = postgres.CheckVisible(ctx, c.db, c.schema.Name(), "checkpoints"); err != nil {
			return unilog.Cursor{}, fmt.Errorf("read the checkpoint: %w", err)
		}
		if _, err = c.db.Exec(ctx, c.schema.SQL(sqlRegisterDeliverer), key.Name, key.Partition, key.LogID); err == nil {
			at, theirs, err = c.load(ctx, key)
		}
	}
	if err != nil {
		return unilog.Cursor{}, fmt.Errorf("read the checkpoint: %w", postgres.Reconnect(c.db, err))
	}
	if theirs != key.LogID {
		return unilog.Cursor{}, &ForeignCheckpointError{Key: key, Theirs: theirs}
	}
	return at, nil
}

func (c postgresCheckpoints) load(ctx context.Context, key CheckpointKey) (at unilog.Cursor, logID string, err error) {
	conn, err := c.db.Acquire(ctx)
	if err != nil {
		return at, "", err
	}
	defer conn.Release()
	if err := postgres.CheckEncoding(conn.Conn()); err != nil { // its name, for one, would be another
		return at, "", err
	}
	var since *time.Time
	paused := &unilog.PausedError{Consumer: key.Name}
	err = conn.QueryRow(ctx, c.schema.SQL(sqlDelivered), key.Name, key.Partition).Scan(&at.Offset, &at.Position, &logID, &since, &paused.By)
	if err == nil && since != nil {
		paused.Since = *since
		err = paused
	}
	return at, logID, err
}

func (c postgresCheckpoints) Save(ctx context.Context, key CheckpointKey, from, to unilog.Cursor) error {
	return c.save(ctx, c.db, key, from, to)
}

func (c postgresCheckpoints) save(ctx context.Context, db unilog.Execer, key CheckpointKey, from, to unilog.Cursor) error {
	tag, err := db.Exec(ctx, c.schema.SQL(sqlSaveDelivered), key.Name, key.Partition, key.LogID, from.Offset, to.Offset, to.Position)
	if err != nil {
		return fmt.Errorf("save the checkpoint: %w", postgres.Reconnect(c.db, err))
	}
	if tag.RowsAffected() == 0 {
		return ErrOvertaken
	}
	return nil
}

// beater is implemented by Checkpoints that can show that a deliverer is alive of which
// they know no more than the name, for all partitions.
type beater interface {
	beat(ctx context.Context, name string) error
}

func (c postgresCheckpoints) beat(ctx context.Context, name string) error {
	return postgres.Reconnect(c.db, reader.Beat(ctx, c.db, c.schema, name))
}

// noter is implemented by Checkpoints that can say to others why a deliverer has halted, or,
// without an error, that it goes on.
type noter interface {
	noteHalt(ctx context.Context, key CheckpointKey, why error) error
}

func (c postgresCheckpoints) noteHalt(ctx context.Context, key CheckpointKey, why error) error {
	at := reader.Owner{DB: c.db, Schema: c.schema, Name: key.Name, Partition: key.Partition, Outside: true}
	if why != nil {
		return reader.NoteHalt(ctx, at, why)
	}
	return reader.ClearHalt(ctx, at)
}

// placer is implemented by Checkpoints that know whether they are in the log's own
// database.
type placer interface {
	places(ctx context.Context, name, logID string) (at map[int]unilog.Cursor, seen bool, err error)
}

func (c postgresCheckpoints) places(ctx context.Context, name, logID string) (map[int]unilog.Cursor, bool, error) {
	return reader.Places(ctx, c.db, c.schema, name, logID)
}

// places returns the checkpoints of all partitions that are known, and whether the log's
// streamers see them.
func (d *Deliverer) places(ctx context.Context, logID string) (map[int]unilog.Cursor, bool, error) {
	if p, ok := d.cfg.Checkpoints.(placer); ok {
		return p.places(ctx, d.cfg.Name, logID)
	}
	d.mu.Lock()
	n := len(d.partitions)
	d.mu.Unlock()
	at := map[int]unilog.Cursor{}
	for partition := range n {
		c, err := d.cfg.Checkpoints.Load(ctx, CheckpointKey{Name: d.cfg.Name, LogID: logID, Partition: partition})
		if err != nil {
			return nil, false, err
		}
		at[partition] = c
	}
	return at, false, nil
}

// park moves the checkpoint past an entry and puts it into dead_letters; since is for
// [reader.CheckRun], or 0.
func (c postgresCheckpoints) park(ctx context.Context, key CheckpointKey, from unilog.Cursor, e unilog.Entry, since int64, why error) error {
	return pgx.BeginFunc(ctx, c.db, func(tx pgx.Tx) error {
		if err := c.save(ctx, tx, key, from, e.Cursor()); err != nil {
			return err
		}
		if since > 0 {
			if err := reader.CheckRun(ctx, tx, c.schema, key.Name, e, since, why); err != nil {
				return err
			}
		}
		return reader.Park(ctx, tx, c.schema, key.Name, e, why)
	})
}
