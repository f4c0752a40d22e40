package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/switchlog"
)

// LogSwitch moves it to another place or engine.
type LogSwitch struct {
	DatabaseFlags `embed:""`
	LogFlags      `embed:""`
	To            string `xor:"what" required:"" placeholder:"URL" help:"Copy the log to this URL, and move there when the copy has caught up."`
	Undo          bool   `xor:"what" required:"" help:"Move back to where the log was before the last move, if that is not finished."`
	Finish        bool   `xor:"what" required:"" help:"Make the last move final."`
	KeepRecords   int64  `env:"KEEP_RECORDS" default:"10000" help:"How many of the last records the new log gets at least, besides what consumers still need."`
	KeepBytes     int64  `env:"KEEP_BYTES" default:"268435456" help:"How many bytes of records the new log gets of a partition at the most."`
	ExpiryFlag    `embed:""`
	Timeout       time.Duration `default:"1h" help:"Give up the copy when it takes longer; nothing has changed then. The move itself is waited for as long again."`
}

// Help follows the flags' own help.
func (LogSwitch) Help() string {
	return `The log is copied while everything runs; then its heads are compared with the database's, and streamers and consumers go on in the new one, each consumer after the last offset that it has applied. Offsets and checkpoints stay as they are. What was moved can be moved back with --undo until --finish.

The URL is kept in the database, for all processes: write a password as ${NAME}, which each process takes from its environment. Consumers in other services must be started again with the new URL.`
}

// Validate refuses what the copy could not keep.
func (c *LogSwitch) Validate() error {
	switch {
	case c.KeepRecords < 0:
		return fmt.Errorf("--keep-records is %d: it must be 0 or more", c.KeepRecords)
	case c.KeepBytes < 1:
		return fmt.Errorf("--keep-bytes is %d: it must be 1 or more", c.KeepBytes)
	}
	return c.ExpiryFlag.Validate()
}

// few is how many records the copy may be behind when the log moves: what is
// missing the next leader publishes from the archive.
const few = 500

// Run returns when everyone who follows has arrived.
func (c *LogSwitch) Run(ctx context.Context, log *slog.Logger, p *Program) error {
	db, err := c.connect(ctx, p, writers)
	if err != nil {
		return err
	}
	defer ClosePool(db)
	ctx, cancel := context.WithTimeout(ctx, 2*c.Timeout)
	defer cancel()
	switch {
	case c.Finish:
		at, err := switchlog.Finish(ctx, db, c.Schema)
		if err = confirmed(ctx, db, err); err == nil {
			log.Info("the log stays where it is: the old one can be deleted", "generation", at.Generation, "url", shownURL(at.URL))
		}
		return err
	case c.Undo:
		to, err := switchlog.Undo(ctx, db, c.Schema)
		if err = confirmed(ctx, db, err); err != nil {
			return err
		}
		log.Info("moved back", "generation", to.Generation, "url", shownURL(to.URL))
		return c.await(ctx, log, p, db, to.Generation, to.URL)
	}
	if engine.HasPassword(c.To) {
		return errors.New("--to has a password in it, and would be kept in the database: write it as ${NAME}, and give each process NAME in its environment")
	}
	if err := c.mayMove(ctx, db); err != nil {
		return err
	}
	generation, err := c.move(ctx, log, p, db)
	if err != nil {
		return err
	}
	if err := c.await(ctx, log, p, db, generation, c.To); err != nil {
		return err
	}
	log.Info(fmt.Sprintf("done: make it final with `%s log switch --finish`, or move back with --undo", p.Name))
	return nil
}

// Index: places_pkey.
const sqlPlace = `SELECT coalesce(url, ''), final FROM unilog.places ORDER BY generation DESC LIMIT 1`

// Index: the table is read whole, and has a row for each record that was redacted.
const sqlLastRedaction = `SELECT coalesce(max(redacted_at), 'epoch') FROM unilog.redactions`

// mayMove refuses, before anything is copied, a move that could not be made or would
// lead nowhere.
func (c *LogSwitch) mayMove(ctx context.Context, db *pgxpool.Pool) error {
	var at string
	var final bool
	if err := db.QueryRow(ctx, c.Schema.SQL(sqlPlace)).Scan(&at, &final); err != nil {
		return fmt.Errorf("see where the log is: %w", err)
	}
	switch {
	case !final:
		return errors.New("the move before is not finished: make it final with --finish, or move back with --undo, first")
	case c.To == cmp.Or(at, c.LogURL, c.RedisURL):
		return errors.New("the log is there already: give --to another URL")
	}
	return nil
}

// move copies the log and moves there.
func (c *LogSwitch) move(ctx context.Context, log *slog.Logger, p *Program, db *pgxpool.Pool) (generation int, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	to, err := c.OpenAt(ctx, p, db, c.Schema, c.To)
	if err != nil {
		return 0, err
	}
	defer to.Close()
	var before time.Time
	if err := db.QueryRow(ctx, c.Schema.SQL(sqlLastRedaction)).Scan(&before); err != nil {
		return 0, fmt.Errorf("see what was redacted; nothing has changed: %w", err)
	}
	for {
		line := newProgress(log, "copying the log")
		copied, err := switchlog.Copy(ctx, db, c.Schema, to, switchlog.Keep{
			Records: c.KeepRecords, Bytes: c.KeepBytes, ConsumerExpiry: c.ConsumerExpiry, ForReports: c.KeepForReports, Copied: line.at,
		})
		line.end()
		if err != nil {
			return 0, fmt.Errorf("copy the log; nothing has changed: %w", err)
		}
		log.Info("copied", "records", copied)
		if copied < few {
			break
		}
	}
	compared, err := switchlog.Compare(ctx, db, c.Schema, to)
	if err != nil {
		return 0, fmt.Errorf("compare the copy; nothing has changed: %w", err)
	}
	log.Info("the copy's last records are those of the database", "compared", compared)
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
		if generation, err = switchlog.Move(ctx, tx, c.Schema, c.To); err != nil {
			return err
		}
		var after time.Time // nothing is redacted from now on
		if err := tx.QueryRow(ctx, c.Schema.SQL(sqlLastRedaction)).Scan(&after); err != nil {
			return fmt.Errorf("see what was redacted; nothing has changed: %w", err)
		}
		if after.After(before) {
			return errors.New("records were redacted while the log was copied, and the copy may have them: run this again; nothing has changed")
		}
		return nil
	})
	if err = confirmed(ctx, db, err); err == nil {
		log.Info("moved", "generation", generation, "url", shownURL(c.To))
	}
	return generation, err
}

const (
	// Index: partitions and checkpoints are some rows.
	sqlPublishedAll = `SELECT partition, published_offset, epoch FROM unilog.partitions ORDER BY partition`
	sqlHasConsumers = `SELECT to_regclass('unilog.checkpoints') IS NOT NULL`
	sqlNotMoved     = `
SELECT count(*) FROM unilog.checkpoints AS c
WHERE split_part(position, '/', 1) <> $1 AND (updated_at > clock_timestamp() - interval '2 s'
    OR updated_at > clock_timestamp() - interval '1 minute'
        AND "offset" < (SELECT next_offset - 1 FROM unilog.partitions AS p WHERE p.partition = c.partition))`
)

// await waits until the log is written in its new place, and read by those
// consumers that run and have something to read.
func (c *LogSwitch) await(ctx context.Context, log *slog.Logger, p *Program, db *pgxpool.Pool, generation int, url string) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	to, err := c.OpenAt(ctx, p, db, c.Schema, url)
	if err != nil {
		return fmt.Errorf("the log has moved, but this command cannot see it: %w", err)
	}
	defer to.Close()
	var consumers bool
	if err := db.QueryRow(ctx, c.Schema.SQL(sqlHasConsumers)).Scan(&consumers); err != nil {
		return fmt.Errorf("the log has moved; wait for its consumers: %w", err)
	}
	for {
		arrived, err := hasArrived(ctx, db, c.Schema, to)
		if err != nil {
			return fmt.Errorf("the log has moved; wait for its leaders: %w", err)
		}
		var behind int
		if consumers {
			if err := db.QueryRow(ctx, c.Schema.SQL(sqlNotMoved), fmt.Sprint(generation)).Scan(&behind); err != nil {
				return fmt.Errorf("the log has moved; wait for its consumers: %w", err)
			}
		}
		if arrived && behind == 0 {
			log.Info("streamers and consumers go on in the new place")
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the log has moved, but not everyone has followed: see `%s status`, or move back with --undo", p.Name)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// hasArrived says whether each partition has a leader that writes to this log, which
// holds all that is published. The copy was made in a term before the move.
func hasArrived(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, log switchlog.Engine) (bool, error) {
	rows, err := db.Query(ctx, schema.SQL(sqlPublishedAll))
	if err != nil {
		return false, err
	}
	defer rows.Close()
	for rows.Next() {
		var partition int
		var published, epoch int64
		if err := rows.Scan(&partition, &published, &epoch); err != nil {
			return false, err
		}
		head, err := log.Head(ctx, partition)
		if err != nil {
			return false, err
		}
		if head.Offset < published || head.Epoch != epoch {
			return false, nil
		}
	}
	return true, rows.Err()
}

// shownURL is a URL as a person may see it.
func shownURL(url string) string {
	if url == "" {
		return "where each process was told to look when it was started"
	}
	return redact(url)
}
