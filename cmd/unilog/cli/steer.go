package cli

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/archive"
)

// ArchiveFlags say where the archive is.
type ArchiveFlags struct {
	ArchiveURL string `name:"archive-url" env:"ARCHIVE_URL" placeholder:"URL" help:"The writers' Postgres, which has the archive, if the consumer keeps its state in another one: that of DATABASE_URL, if not set."`
}

// hasLog says whether a database has the writers' side of the tables.
const hasLog = `SELECT to_regclass('unilog.batches') IS NOT NULL`

// archive returns the database that has the archive, and what closes it; nil if none is
// known.
func (f *ArchiveFlags) archive(ctx context.Context, p *Program, db *pgxpool.Pool, schema unilog.Schema) (*pgxpool.Pool, func(), error) {
	if f.ArchiveURL != "" {
		other := DatabaseFlags{DatabaseURL: f.ArchiveURL, Schema: schema}
		pool, err := other.connect(ctx, p, writers)
		if err != nil {
			return nil, nil, fmt.Errorf("ARCHIVE_URL: %w", err)
		}
		return pool, func() { ClosePool(pool) }, nil
	}
	there := false
	if err := db.QueryRow(ctx, schema.SQL(hasLog)).Scan(&there); err != nil || !there {
		return nil, func() {}, err
	}
	return db, func() {}, nil
}

// Steered names a consumer that somebody intervenes with.
type Steered struct {
	TaskFlags `embed:""`
	Name      string `arg:"" help:"The consumer or deliverer. It may be running."`
}

func (c *Steered) steer(ctx context.Context, p *Program, do func(ctx context.Context, db *pgxpool.Pool) error) error {
	return c.do(ctx, p, consumers, 0, func(ctx context.Context, db *pgxpool.Pool) error {
		err := do(ctx, db)
		if errors.Is(err, consumer.ErrUnknown) {
			return p.unknownOf(ctx, db, c.Schema, c.Name)
		}
		for _, target := range []any{new(*unilog.NotArchivedError), new(*unilog.ForeignLogError), new(*consumer.BeyondError), new(*consumer.NotNextError), new(*consumer.PauseError)} {
			if errors.As(err, target) { // it says all there is to say
				text := reflect.ValueOf(target).Elem().Interface().(error).Error()
				return errors.New(strings.TrimPrefix(text, "unilog: "))
			}
		}
		return err
	})
}

// ConsumersPause pauses a consumer.
type ConsumersPause struct {
	Steered `embed:""`
	Reason  string `help:"Why, for the table interventions."`
}

// Help follows the flags' own help.
func (c *ConsumersPause) Help() string {
	return "When the command returns, nothing more is applied. Processes keep running, keep their leases and count as ready; what they need is kept. A paused consumer stays so when it is started anew."
}

// Run says so if it is paused already.
func (c *ConsumersPause) Run(ctx context.Context, p *Program) error {
	err := c.steer(ctx, p, func(ctx context.Context, db *pgxpool.Pool) error {
		return consumer.In(c.Schema).Pause(ctx, db, c.Name, c.Reason)
	})
	if err == nil {
		fmt.Printf("%s is paused: `%s consumers resume %s` lets it go on\n", c.Name, p.Name, c.Name)
	}
	return err
}

// ConsumersResume lets one go on.
type ConsumersResume struct {
	Steered `embed:""`
	Reason  string `help:"Why, for the table interventions."`
}

// Run says so if it is not paused.
func (c *ConsumersResume) Run(ctx context.Context, p *Program) error {
	err := c.steer(ctx, p, func(ctx context.Context, db *pgxpool.Pool) error {
		return consumer.In(c.Schema).Resume(ctx, db, c.Name, c.Reason)
	})
	if err == nil {
		fmt.Printf("%s goes on\n", c.Name)
	}
	return err
}

// ConsumersSkip puts a record into dead_letters in the place of a consumer.
type ConsumersSkip struct {
	Steered      `embed:""`
	ArchiveFlags `embed:""`
	LogFlags     `embed:""`
	Partition    int    `arg:"" help:"The partition."`
	Offset       int64  `arg:"" help:"The offset of the record, which must be the next one: it is what the consumer has halted at."`
	Reason       string `required:"" help:"Why. It is kept with the record."`
}

// Help follows the flags' own help.
func (c *ConsumersSkip) Help() string {
	return "The record goes to the dead letters, and the checkpoint past it, in one transaction. A consumer that runs goes on after it within a second. It can be applied later by `${program} deadletters requeue`."
}

// Run refuses a record that is not next.
func (c *ConsumersSkip) Run(ctx context.Context, p *Program) error {
	err := c.steer(ctx, p, func(ctx context.Context, db *pgxpool.Pool) error {
		entry, err := c.record(ctx, p, db)
		if err != nil {
			return err
		}
		return consumer.In(c.Schema).Skip(ctx, db, c.Name, entry, c.Reason)
	})
	if err == nil {
		fmt.Printf("%s: %v is skipped, and is in the dead letters\n", c.Name, letter{c.Partition, c.Offset})
	}
	return err
}

// record reads it from the archive, or else from the log. What does not exist is an entry
// without content, for Skip to say where the consumer is.
func (c *ConsumersSkip) record(ctx context.Context, p *Program, db *pgxpool.Pool) (unilog.Entry, error) {
	none := unilog.Entry{Partition: c.Partition, Offset: c.Offset}
	is := func(found []unilog.Entry) bool { return len(found) > 0 && found[0].Offset == c.Offset }
	from, done, err := c.archive(ctx, p, db, c.Schema)
	if err != nil {
		return none, err
	}
	defer done()
	if from != nil {
		found, err := archive.Read(ctx, from, c.Schema, c.Partition, c.Offset-1, c.Offset, 1)
		if damaged := new(archive.DamagedError); err != nil && !errors.As(err, &damaged) {
			return none, err
		}
		if is(found) {
			var logID string
			if err := from.QueryRow(ctx, c.Schema.SQL(sqlLogID)).Scan(&logID); err != nil {
				return none, err
			}
			return found[0], c.isOf(ctx, db, logID)
		}
	}
	next, err := c.next(ctx, db)
	switch {
	case err != nil:
		return none, err
	case next != c.Offset: // to be refused
		return none, nil
	case c.LogURL == "" && c.RedisURL == "":
		return none, fmt.Errorf("%v is not in the archive: set REDIS_URL or LOG_URL, to look for it in the log", letter{c.Partition, c.Offset})
	}
	log, err := c.OpenAt(ctx, p, db, c.Schema, "")
	if err != nil {
		return none, err
	}
	defer log.Close()
	found, err := log.Read(ctx, c.Partition, unilog.Cursor{Offset: c.Offset - 1}, 1, 0)
	if err == nil && is(found) {
		var head unilog.Head
		if head, err = log.Head(ctx, c.Partition); err == nil {
			err = c.isOf(ctx, db, head.LogID)
		}
	} else if err == nil {
		err = fmt.Errorf("%v is neither in the archive nor in the log: `%s consumers seek %s --offset %d --partition %d` passes over it", letter{c.Partition, c.Offset}, p.Name, c.Name, c.Offset+1, c.Partition)
	}
	if err != nil {
		return none, err
	}
	return found[0], nil
}

const (
	// Index: checkpoints_pkey.
	sqlNextOf = `SELECT coalesce((SELECT "offset" + 1 FROM unilog.checkpoints WHERE name = $1 AND partition = $2), 0)`
	// Index: checkpoints_pkey.
	sqlLogIDOf = `SELECT coalesce((SELECT log_id FROM unilog.checkpoints WHERE name = $1 AND partition = $2), '')`
	// Index: none, it is one row.
	sqlLogID = `SELECT log_id::text FROM unilog.log`
)

func (c *ConsumersSkip) next(ctx context.Context, db *pgxpool.Pool) (next int64, err error) {
	err = db.QueryRow(ctx, c.Schema.SQL(sqlNextOf), c.Name, c.Partition).Scan(&next)
	return next, err
}

// isOf returns an error if a log is not the one that the consumer reads: a record at the
// same offset there is another one.
func (c *ConsumersSkip) isOf(ctx context.Context, db *pgxpool.Pool, logID string) error {
	own := ""
	if err := db.QueryRow(ctx, c.Schema.SQL(sqlLogIDOf), c.Name, c.Partition).Scan(&own); err != nil {
		return err
	}
	if own != "" && own != logID {
		return &unilog.ForeignLogError{Consumer: c.Name, Partition: c.Partition, LogID: own, Theirs: logID}
	}
	return nil
}

// ConsumersSeek moves a consumer's checkpoints.
type ConsumersSeek struct {
	Steered      `embed:""`
	ArchiveFlags `embed:""`
	Offset       int64   `xor:"to" required:"" help:"To this offset: that of the next record."`
	Time         *Moment `xor:"to" required:"" help:"To the first record that was numbered then or later, such as 2026-07-01T12:00:00Z, or 2h for two hours ago."`
	Head         bool    `xor:"to" required:"" help:"To the end: what is there now is passed over."`
	Beginning    bool    `xor:"to" required:"" help:"To the first record there ever was."`
	Partition    *int    `help:"In this partition alone; in all, if not given."`
	Reason       string  `help:"Why, for the table interventions."`
	Yes          bool    `help:"Do it, and not only say what would be done."`
}

// Help follows the flags' own help.
func (c *ConsumersSeek) Help() string {
	return "A consumer that runs goes on from there within a second. Moved back, it is given records again that it has applied; moved ahead, it never gets what is between. Without --yes, nothing is done."
}

// errNotYes takes back what was only to be shown.
var errNotYes = errors.New("nothing is changed: say --yes to do it")

// start is what the flags ask for.
func (c *ConsumersSeek) start() (unilog.Start, error) {
	switch {
	case c.Head:
		return unilog.Start{Head: true}, nil
	case c.Beginning:
		return unilog.Start{}, nil
	case c.Time == nil:
		if c.Offset < 1 {
			return unilog.Start{}, fmt.Errorf("--offset is %d: the first one is 1", c.Offset)
		}
		return unilog.Start{Offset: c.Offset}, nil
	}
	return unilog.Start{Time: c.Time.after(time.Now())}, nil
}

// Run says what it does, and without --yes takes it back.
func (c *ConsumersSeek) Run(ctx context.Context, p *Program) error {
	start, err := c.start()
	if err != nil {
		return &ExitError{ExitUsage, err}
	}
	return c.steer(ctx, p, func(ctx context.Context, db *pgxpool.Pool) error {
		from, done, err := c.archive(ctx, p, db, c.Schema)
		if err != nil {
			return err
		}
		defer done()
		to := consumer.Target{Start: start, Partition: c.Partition, Reason: c.Reason}
		if from != nil {
			to.Archive = from
		}
		var moves []consumer.Move
		err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) (err error) {
			if moves, err = consumer.In(c.Schema).Seek(ctx, tx, c.Name, to); err == nil && !c.Yes {
				err = errNotYes
			}
			return err
		})
		switch {
		case errors.Is(err, consumer.ErrPartitions):
			return fmt.Errorf("%s reads several partitions, and each has offsets of its own: say which one with --partition", c.Name)
		case from == nil && moves == nil && (c.Head || c.Time != nil):
			return fmt.Errorf("this database has no archive: give the writers' with --archive-url (ARCHIVE_URL): %w", err)
		case err != nil && !errors.Is(err, errNotYes):
			return err
		}
		c.say(p, moves)
		return err
	})
}

// say says what comes of the moves.
func (c *ConsumersSeek) say(p *Program, moves []consumer.Move) {
	will := ""
	if !c.Yes {
		will = "would go on "
	}
	for _, m := range moves {
		text := fmt.Sprintf("%s: %sat %v", c.Name, will, letter{m.Partition, m.To + 1})
		switch {
		case m.To < m.From:
			text += fmt.Sprintf(", and not at %d: %d records are given to its handler again, though it has applied them", m.From+1, m.From-m.To)
		case m.To > m.From:
			text += fmt.Sprintf(", and not at %d: %d records are passed over, and never applied", m.From+1, m.To-m.From)
		default:
			text += ", where it is"
		}
		if m.Parked > 0 {
			text += fmt.Sprintf("; %d of them are parked now, and come again likewise", m.Parked)
		}
		fmt.Println(text)
	}
	if p.Audit != nil {
		fmt.Printf("`%s verify` then says by how much that makes %s disagree\n", p.Name, c.Name)
	}
}
