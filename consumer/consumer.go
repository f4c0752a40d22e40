package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/reader"
)

// Handler applies one or more entries of one partition, in their order, to a
// consumer's state. It must write through tx and only through tx: the checkpoint is
// saved in the same transaction, so each entry takes effect exactly once.
//
// Calls for different partitions may come at the same time, those for one partition
// never do. Variables that calls share need a mutex, and a row that all partitions
// write to makes them wait for each other.
//
// It may run more than once for the same entries: a transaction that fails is
// rolled back and tried again. An error rejects an entry, unless the database is the
// reason: a lost connection, a deadlock, a full disk, a table or a right that is missing.
// Then the consumer is not ready, and tries again until it is mended. It finds out which
// entry is rejected by giving the Handler fewer, and asks once more about the one that
// is left. A panic counts as a rejection, and so does a timeout that the Handler
// itself has set.
//
// The transaction is the consumer's to end. A Handler that ends it, or ignores that a
// statement of it failed, halts the consumer with [unilog.ErrTransactionSpoiled].
// Settings that it changes for longer than the transaction cost it its connection.
//
// Its context ends after HandlerTimeout, and the server ends a transaction that is
// silent for as long, so that neither a lost answer nor a frozen process delays
// others for ever. The entries are then tried again, in smaller batches.
//
// One that has not returned 3 seconds later hangs. Its connection is closed then, so
// that nothing it still does takes effect. The partition waits for it to return, or is
// left to another process; see [Consumer.Run].
type Handler func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error

// Each makes a Handler of a function for one entry.
func Each(f func(ctx context.Context, tx pgx.Tx, entry unilog.Entry) error) Handler {
	return func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
		for _, e := range entries {
			if err := f(ctx, tx, e); err != nil {
				return err
			}
		}
		return nil
	}
}

// Config says what a consumer reads and where its state is. Name, DB,
// Log and Handler are required.
type Config struct {
	// Name is the name of the consumer; its checkpoints are kept under it. Several
	// processes of one name share the log's partitions, and together they apply
	// each entry once. To read the logs of several databases, run a consumer for
	// each, with names such as totals/eu and totals/us.
	Name string
	// DB is the database of the state that Handler writes to. Run takes a
	// connection for each partition while it applies entries of it, and one more
	// for its leases. With fewer, partitions wait for each other, and while handlers
	// take seconds, other processes may believe that this one is dead.
	DB *pgxpool.Pool
	// Log is the log that is read.
	Log unilog.Log
	// Handler applies them.
	Handler Handler
	// Only are the kinds of records that Handler gets: all by default. Others are
	// passed over: the checkpoint moves on without a call of Handler or of a hook, and
	// without a transaction for each batch, within a second. Entries that a later
	// version of the log has made for itself are never passed over. To ask for more
	// kinds later does not bring back what was passed over.
	Only []unilog.Kind
	// Archive is the source's database, from which entries are read that the
	// log no longer holds. Without it, such a gap halts the consumer with a
	// [unilog.GapError].
	//
	// It may be the same as DB. Commits then do not wait for the disk: a crash of
	// Postgres may undo the last of them, less than a second's, state and
	// checkpoint together, and their entries are applied again. A Handler whose
	// state must not go back even then begins with
	// SET LOCAL synchronous_commit = on.
	Archive *pgxpool.Pool
	// Start is where a consumer begins whose name has no checkpoint yet: by default at the
	// first record. It is registered there, in all partitions at once, when Ready of a process
	// that reads one first returns nil, at the latest: nothing that commits after that is
	// left out, whatever Start says. A time needs the Archive. Where that
	// no longer has what Start asks for, the consumer halts with a
	// [unilog.NotArchivedError]. Its audit leaves it out, see [audit.Balance].
	Start unilog.Start
	// Schema is the one of unilog's tables, in DB and in Archive: default
	// [unilog.DefaultSchema].
	Schema unilog.Schema
	// BatchRecords bounds a transaction, in records: 1 to 100,000, default 4,000.
	BatchRecords int
	// ParkRejected puts an entry that Handler rejects into dead_letters and
	// goes on after it. By default the consumer halts there, with a
	// [unilog.RejectedError]; with ParkRejected it does so after 20 entries in a row
	// that are parked, and were neither retried nor discarded since.
	ParkRejected bool
	// RetryHalted makes a partition that halts try again after each such time, instead of
	// ending Run: where a person must decide, he may do so elsewhere. The others go on, and
	// the consumer is not ready meanwhile. 0, the default, ends Run.
	RetryHalted time.Duration
	// HandlerTimeout bounds one call of Handler, and how long this process may
	// be silent within its transaction: default a minute. It is also how long a
	// lost answer, or a frozen process, holds up the consumer at the most.
	HandlerTimeout time.Duration
	// Logger is told what happens: default slog.Default().
	Logger *slog.Logger
	// Hooks are called between the steps; none by default.
	Hooks Hooks
	// Observer is told what happens; nobody by default.
	Observer Observer

	// silence is how long this process may be silent within its transaction. It is
	// HandlerTimeout, except in tests.
	silence time.Duration
	// grace is how long Handler may take to return when its time is over. It is
	// [loop.Grace], except in tests.
	grace time.Duration
	// passedPause is how long the checkpoint may be behind what was passed over. It is
	// [passedPause], except in tests.
	passedPause time.Duration
	// patience is how long a partition may be out of order until this process leaves it
	// to others, and unwanted is how long one may be free until this process takes it beyond
	// its share. They are [patience], except in tests.
	patience, unwanted time.Duration
}

// Consumer reads a log and applies it to a state in Postgres: the entries of a
// partition in their order, those of different partitions at the same time.
//
// A Consumer is not safe for concurrent use, except for Ready.
type Consumer struct {
	cfg Config
	log *slog.Logger
	// partitions are those that are known, by number. They only become more.
	partitions []*partitionConsumer
	registered atomic.Int64 // for how many partitions there are checkpoints
	heartbeat  time.Time
	heeded     int64 // the last intervention
	saysPaused atomic.Bool
	looked     time.Time // for interventions, in RunOnce
	reporting  reader.Reporting

	readiness loop.Readiness // of everything but the partitions
	mu        sync.Mutex
	working   []*partitionConsumer // whose readiness counts
}

// New checks the configuration and fills in its defaults.
func New(cfg Config) (*Consumer, error) {
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, 4000)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.HandlerTimeout = cmp.Or(cfg.HandlerTimeout, time.Minute)
	cfg.silence = cmp.Or(cfg.silence, cfg.HandlerTimeout)
	cfg.grace = cmp.Or(cfg.grace, loop.Grace)
	cfg.passedPause = cmp.Or(cfg.passedPause, passedPause)
	cfg.patience = cmp.Or(cfg.patience, patience)
	cfg.unwanted = cmp.Or(cfg.unwanted, patience)
	if err := cfg.Schema.Check(); err != nil {
		return nil, fmt.Errorf("consumer: Config.Schema: %w", err)
	}
	switch {
	case cfg.Name == "":
		return nil, errors.New("consumer: Config.Name is required")
	case !unilog.StorableText(cfg.Name):
		return nil, fmt.Errorf("consumer: Config.Name %w", unilog.ErrInvalidText)
	case cfg.DB == nil:
		return nil, errors.New("consumer: Config.DB is required")
	case cfg.Log == nil:
		return nil, errors.New("consumer: Config.Log is required")
	case cfg.Handler == nil:
		return nil, errors.New("consumer: Config.Handler is required")
	case cfg.Start.Check() != nil:
		return nil, fmt.Errorf("consumer: Config.Start: %w", cfg.Start.Check())
	case !cfg.Start.Time.IsZero() && cfg.Archive == nil:
		return nil, errors.New("consumer: Config.Start.Time needs Config.Archive, which knows when records were numbered")
	case cfg.RetryHalted < 0:
		return nil, fmt.Errorf("consumer: Config.RetryHalted is %v: it must be 0, not to retry, or more", cfg.RetryHalted)
	case cfg.HandlerTimeout < time.Millisecond:
		return nil, fmt.Errorf("consumer: Config.HandlerTimeout is %v: it must be at least 1ms", cfg.HandlerTimeout)
	case cfg.BatchRecords < 1 || cfg.BatchRecords > 100_000:
		return nil, fmt.Errorf("consumer: Config.BatchRecords is %d: it must be from 1 to 100,000", cfg.BatchRecords)
	}
	for i, kind := range cfg.Only {
		switch {
		case kind.Object == "":
			return nil, fmt.Errorf("consumer: Config.Only[%d].Object is required", i)
		case kind.Object == unilog.ReservedObject:
			return nil, fmt.Errorf("consumer: Config.Only[%d].Object %w", i, unilog.ErrReserved)
		}
	}
	c := &Consumer{cfg: cfg, log: cfg.Logger.With("consumer", cfg.Name)}
	c.reporting = reader.Reporting{Name: cfg.Name, Log: cfg.Log, Places: c.places, Failed: cfg.Observer.unreported, Logger: c.log}
	return c, nil
}

// places returns the checkpoints, and whether the log's streamers see them.
func (c *Consumer) places(ctx context.Context, logID string) (map[int]unilog.Cursor, bool, error) {
	return reader.Places(ctx, c.cfg.DB, c.cfg.Schema, c.cfg.Name, logID)
}

// firstPartition is the one that every log has.
const firstPartition = 0

// RunOnce reads one batch of each partition without waiting for it and applies
// the entries that are new, up to the first one that is missing. It returns how many
// entries it applied or passed over. Called again after an error, it goes on from the checkpoints.
// It ignores leases: entries that other processes apply at the same time are still
// applied once.
func (c *Consumer) RunOnce(ctx context.Context) (int, error) { return c.stepAll(ctx, 0) }

func (c *Consumer) stepAll(ctx context.Context, wait time.Duration) (n int, err error) {
	if time.Since(c.heartbeat) >= loop.Heartbeat {
		err = c.beat(ctx)
	}
	number := 0
	if err == nil {
		number, err = c.count(ctx)
	}
	if err == nil {
		err = c.register(ctx, number)
	}
	err = postgres.Reconnect(c.cfg.DB, err)
	c.readiness.Note(ctx, err)
	if err != nil {
		return 0, err
	}
	c.know(number)
	c.setWorking(c.partitions)
	if err := c.heed(ctx); err != nil {
		return 0, err
	}
	for _, p := range c.partitions {
		applied, stepErr := p.step(ctx, ctx, wait)
		n += applied
		err = errors.Join(err, stepErr)
	}
	c.reporting.Once(ctx)
	return n, err
}

// Index: partitions_pkey, of which it reads the last entry.
const sqlPartitions = `SELECT coalesce(max(partition), 0) + 1 FROM unilog.partitions`

// count finds out how many partitions there are. Those that are no longer active
// count, too: they have a history to be read.
func (c *Consumer) count(ctx context.Context) (number int, err error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if c.cfg.Archive != nil {
		if err := c.cfg.Archive.QueryRow(ctx, c.cfg.Schema.SQL(sqlPartitions)).Scan(&number); err != nil {
			return 0, fmt.Errorf("count the partitions: %w", err)
		}
		return number, nil
	}
	head, err := c.cfg.Log.Head(ctx, firstPartition)
	if err != nil {
		return 0, &unilog.LogError{Call: "read the number of partitions", Err: err}
	}
	return max(head.Partitions, 1), nil // a log that was never claimed does not say how many
}

// know adds partitions until there are so many.
func (c *Consumer) know(number int) {
	for p := len(c.partitions); p < number; p++ {
		log := c.log
		if number > 1 {
			log = log.With("partition", p)
		}
		c.partitions = append(c.partitions, newPartitionConsumer(&c.cfg, p, log))
		c.partitions[p].saysPaused = &c.saysPaused
		c.partitions[p].checkpoint.registered, c.partitions[p].checkpoint.enroll = &c.registered, c.enroll
	}
}

func (c *Consumer) setWorking(partitions []*partitionConsumer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.working = slices.Clone(partitions)
}

// readers are those of the partitions that this process works on.
func (c *Consumer) readers() (all []*reader.Reader) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.working {
		all = append(all, p.reader)
	}
	return all
}

// Ready returns nil if the last attempt to read and apply a batch succeeded in each
// partition that this process reads, or if other processes read them all. Otherwise
// it says in one line why this consumer cannot read or apply. A call without an
// answer is noticed when its time is over, that of a handler 3 s after HandlerTimeout.
// A process is not ready, either, while it leaves to others what it cannot do itself.
// Ready is safe for concurrent use with everything else.
func (c *Consumer) Ready() error {
	if err := c.readiness.Ready(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var notReady error
	for _, p := range c.working {
		err := p.readiness.Ready()
		if err != nil && !errors.Is(err, loop.ErrNotLooked) {
			return err
		}
		notReady = cmp.Or(notReady, err)
	}
	return notReady
}
