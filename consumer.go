package unilog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Handler applies entries, one or more, in their order, to a consumer's state.
// It must write through tx and only through tx: the checkpoint is saved in the
// same transaction, so each entry takes effect exactly once.
//
// It may run more than once for the same entries: a transaction that fails is
// rolled back and tried again. If it returns an error for a reason other than
// the database's (a lost connection, a deadlock, a serialization failure), it
// has rejected an entry. The consumer finds out which one by giving it fewer,
// and asks once more about the one that is left. A panic counts as a rejection,
// and so does a timeout that is not the consumer's own.
//
// Its context ends after HandlerTimeout, and the server ends a transaction that is
// silent for as long, so that neither a lost answer nor a frozen process holds
// anything up for ever. The entries are then tried again, in smaller batches.
type Handler func(ctx context.Context, tx pgx.Tx, entries []Entry) error

// Each makes a Handler of a function for one entry.
func Each(f func(ctx context.Context, tx pgx.Tx, entry Entry) error) Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []Entry) error {
		for _, e := range entries {
			if err := f(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	}
}

// ConsumerConfig says what a consumer reads and where its state is. Name, DB,
// Log and Handler are required.
type ConsumerConfig struct {
	// Name is the consumer's: its checkpoint is kept under it. Several
	// instances of one name may run; together they apply each entry once.
	Name string
	// DB is the database of the state that Handler writes to.
	DB *pgxpool.Pool
	// Log is where the entries are read.
	Log Log
	// Handler applies them.
	Handler Handler
	// Archive is the source's database, from which entries are read that the
	// log no longer holds. Without it, such a gap halts the consumer with a
	// [GapError].
	//
	// It may be the same as DB. Commits then do not wait for the disk: a crash of
	// Postgres may undo the last of them, less than a second's, state and
	// checkpoint together, and their entries are applied again. A Handler whose
	// state must not go back even then begins with
	// SET LOCAL synchronous_commit = on.
	Archive *pgxpool.Pool
	// BatchRecords bounds a transaction, in records: 1 to 100,000, default 4,000.
	BatchRecords int
	// ParkRejected puts an entry that Handler rejects into dead_letters and
	// goes on after it. By default the consumer halts there, with a
	// [RejectedError].
	ParkRejected bool
	// HandlerTimeout bounds one call of Handler, and how long this process may
	// be silent within its transaction: default a minute. It is also how long a
	// lost answer, or a frozen process, holds up the consumer at the most.
	HandlerTimeout time.Duration
	// Logger gets what happens: default slog.Default().
	Logger *slog.Logger
	// Hooks are called between the steps; none by default.
	Hooks ConsumerHooks
	// Observer is told what happens; nobody by default.
	Observer ConsumerObserver
}

// Consumer reads a log and applies it to a state in Postgres.
//
// A Consumer is not safe for concurrent use, but for its Ready.
type Consumer struct {
	cfg       ConsumerConfig
	log       *slog.Logger
	readiness readiness

	// at is the checkpoint, and nil when it has to be read again.
	at *Cursor
	// limit is how many entries the next read asks for: fewer after a failure.
	limit     int
	heartbeat time.Time

	readsAhead bool // Run does, RunOnce does not
	ahead      *readAhead
}

const (
	// heartbeat is how often an idle consumer shows that it is alive.
	heartbeat = 30 * time.Second
	// readWait bounds how long a read waits for the first entry.
	readWait = time.Second
)

// NewConsumer checks the configuration and fills in its defaults.
func NewConsumer(cfg ConsumerConfig) (*Consumer, error) {
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, 4000)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.HandlerTimeout = cmp.Or(cfg.HandlerTimeout, time.Minute)
	switch {
	case cfg.Name == "":
		return nil, errors.New("unilog: ConsumerConfig.Name is required")
	case !storableText(cfg.Name):
		return nil, fmt.Errorf("unilog: ConsumerConfig.Name %w", ErrInvalidText)
	case cfg.DB == nil:
		return nil, errors.New("unilog: ConsumerConfig.DB is required")
	case cfg.Log == nil:
		return nil, errors.New("unilog: ConsumerConfig.Log is required")
	case cfg.Handler == nil:
		return nil, errors.New("unilog: ConsumerConfig.Handler is required")
	case cfg.HandlerTimeout < time.Millisecond:
		return nil, fmt.Errorf("unilog: ConsumerConfig.HandlerTimeout is %v: it must be at least 1ms", cfg.HandlerTimeout)
	case cfg.BatchRecords < 1 || cfg.BatchRecords > 100_000:
		return nil, fmt.Errorf("unilog: ConsumerConfig.BatchRecords is %d: it must be from 1 to 100,000", cfg.BatchRecords)
	}
	return &Consumer{
		cfg:   cfg,
		log:   cfg.Logger.With("consumer", cfg.Name),
		limit: cfg.BatchRecords,
	}, nil
}

// firstPartition is the only one so far.
const firstPartition = 0

// Run consumes until ctx ends. Then it finishes the batch in hand, within
// 5 seconds, and returns nil.
//
// It goes on through the loss of Postgres and of the log, and returns an error
// only where a person must decide: a [RejectedError], a [GapError] or a
// [CheckpointAheadError]. While the log is ahead of its source, it waits, and
// logs a [LogAheadError].
func (c *Consumer) Run(ctx context.Context) error {
	work, stop := outlive(ctx, shutdownTimeout)
	defer stop()
	c.readsAhead = true
	defer func() {
		c.readsAhead = false
		c.dropAhead()
	}()
	retry := backoff{first: 10 * time.Millisecond, most: time.Second}
	for ctx.Err() == nil {
		_, err := c.step(ctx, work, readWait)
		var rejected *RejectedError
		var gap *GapError
		var ahead *CheckpointAheadError
		switch {
		case err == nil:
			retry.reset()
		case errors.As(err, &rejected), errors.As(err, &gap), errors.As(err, &ahead):
			return err
		case errors.Is(err, ErrSimulated):
			c.log.Debug("simulated failure: starting again from the checkpoint")
		case ctx.Err() != nil:
		default:
			c.log.Warn("consuming failed: trying again", "err", err)
			retry.wait(ctx)
		}
	}
	return nil
}

// RunOnce reads one batch without waiting for it and applies what of it is new,
// up to the first entry that is missing. It returns how many entries it
// applied. Called again after an error, it goes on from the checkpoint.
func (c *Consumer) RunOnce(ctx context.Context) (int, error) {
	return c.step(ctx, ctx, 0)
}

// step reads one batch, as long as ctx lives, and applies it, as long as work
// does.
func (c *Consumer) step(ctx, work context.Context, wait time.Duration) (n int, err error) {
	defer func() {
		if err != nil {
			c.at = nil // what was committed is not known
			if ctx.Err() == nil {
				c.cfg.Observer.failed(err)
			}
		}
		if c.at == nil {
			c.dropAhead()
		}
		c.readiness.note(ctx, err)
	}()
	if err := c.loadCheckpoint(ctx); err != nil {
		return 0, err
	}
	if err := c.beat(ctx); err != nil {
		return 0, err
	}
	entries, err := c.read(ctx, wait)
	if err != nil {
		if ctx.Err() == nil {
			c.limit = max(1, c.limit/2)
		}
		return 0, &LogError{"read the log", err}
	}
	entries = c.skipApplied(ctx, entries)
	if entries, err = c.fillGap(ctx, entries, wait > 0); err != nil {
		return 0, err
	}
	if len(entries) == 0 {
		return 0, nil
	}
	c.startAhead(ctx, entries)
	n, err = c.apply(work, entries)
	// What is too much for one transaction succeeds in parts.
	if errors.Is(err, context.DeadlineExceeded) {
		c.limit = min(c.limit, len(entries))
	}
	if err != nil {
		c.limit = max(1, c.limit/2)
	} else {
		c.limit = min(2*c.limit, c.cfg.BatchRecords)
	}
	return n, err
}

// skipApplied drops the entries up to the checkpoint. A log that holds each
// offset once gives none; reading on after them costs nothing either way.
func (c *Consumer) skipApplied(ctx context.Context, entries []Entry) []Entry {
	n := 0
	for n < len(entries) && entries[n].Offset <= c.at.Offset {
		n++
	}
	if n > 0 {
		c.log.Info("skipped duplicates", "records", n, "first", entries[0].Offset, "last", entries[n-1].Offset)
		if c.cfg.Hooks.Skipped != nil {
			c.cfg.Hooks.Skipped(ctx, entries[:n])
		}
		if n == len(entries) {
			c.at.Position = entries[n-1].Position
		}
	}
	return entries[n:]
}
