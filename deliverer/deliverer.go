package deliverer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/reader"
)

// Delivery carries one or more entries of one partition, in their order, to their
// destination: a webhook, a warehouse. It returns nil when all of them have arrived.
//
// It must be idempotent: the same entries come again after an error, after a crash
// before the checkpoint is saved, and from other instances of the same name. logID,
// with the partition and the offset of an entry, is a key that names it for ever.
//
// An error, or a panic, leaves open what has arrived. The deliverer waits, longer each
// time, up to 30 seconds, and tries again from the same entry, with fewer entries.
// [Reject], [Halt], [Unavailable] and [RetryAfter] say more than a plain error. A call must return when its
// context ends, after Timeout: otherwise its partition stands still until it does, and the
// deliverer is not ready. Run leaves it behind when it ends.
//
// It is called for different partitions at the same time.
type Delivery func(ctx context.Context, logID string, entries []unilog.Entry) error

// Config says what a deliverer reads and where it delivers. Name, Log,
// Deliver and Checkpoints are required.
type Config struct {
	// Name is the name of the deliverer; its checkpoints are kept under it. Run one
	// instance of a name. With [PostgresCheckpoints], several can take over from each
	// other: none can skip an entry, but entries that two have read both deliver.
	Name string
	// Log is the log that is read, with all its partitions.
	Log unilog.Log
	// Deliver delivers them.
	Deliver Delivery
	// Checkpoints keep what has been delivered.
	Checkpoints Checkpoints
	// Archive is the source's database, from which entries are read that the
	// log no longer holds. Without it, such a gap halts the deliverer with a
	// [unilog.GapError].
	Archive *pgxpool.Pool
	// Start is where a deliverer begins whose name has no checkpoint yet: by default at the
	// first record. A time needs the Archive. Where that no longer has what Start asks for, the
	// deliverer halts with a [unilog.NotArchivedError]. It needs [PostgresCheckpoints] or
	// [FileCheckpoints].
	Start unilog.Start
	// RetryHalted makes a partition that halts try again after each such time, instead of
	// ending Run: where a person must decide, he may do so elsewhere. The others go on, and
	// the deliverer is not ready meanwhile. 0, the default, ends Run.
	RetryHalted time.Duration
	// Schema is the one of unilog's tables in Archive: default [unilog.DefaultSchema].
	Schema unilog.Schema
	// Only are the kinds of records that are delivered: all by default. Others are passed
	// over without a call, and without a checkpoint for each. Entries that a later version
	// of the log has made for itself are never passed over.
	Only []unilog.Kind
	// BatchRecords bounds how many entries one call of Deliver gets, and so how many
	// come again after a crash: 1 to 100,000, default 1.
	BatchRecords int
	// SaveEvery is how many entries are delivered until the checkpoint is saved, where
	// more of them wait, and so how many more come again after a crash: 1 to 100,000,
	// default 1, which is after each call. It is saved after a second in any case,
	// after an error, and when Run ends.
	SaveEvery int
	// Timeout bounds one call of Deliver: default a minute.
	Timeout time.Duration
	// Attempts is how often, within one Run, the delivery of an entry alone may fail
	// until the entry counts as rejected; 0, the default, tries for ever. An error of
	// [Unavailable] is not counted.
	Attempts int
	// ParkRejected puts a rejected entry into dead_letters and goes on after it. It
	// needs [PostgresCheckpoints]. By default the deliverer halts there,
	// with a [unilog.RejectedError]; with ParkRejected it does so after 20 entries in a
	// row that are parked, and were neither retried nor discarded since.
	ParkRejected bool
	// Logger is told what happens: default slog.Default().
	Logger *slog.Logger
	// Observer is told what happens; nobody by default.
	Observer Observer

	retryFirst, retryMost time.Duration // the waits after failed deliveries
	grace                 time.Duration // for a call to return when its time is over
	beatPause             time.Duration
	saveWithin            time.Duration // how long the checkpoint may be behind
}

// Deliverer reads a log and delivers it to a destination that no transaction reaches:
// each entry at least once, and, within its partition, never before the one that
// precedes it has arrived. It never passes over an entry.
//
// A Deliverer is not safe for concurrent use, except for Ready.
type Deliverer struct {
	cfg Config
	log *slog.Logger

	readiness  loop.Readiness // of the look for partitions, until there are some
	beating    loop.Readiness // of the checkpoints' database
	mu         sync.Mutex     // for partitions: Ready reads it
	partitions []*delivering
	heartbeat  time.Time
	started    bool      // there is a checkpoint
	looked     time.Time // for interventions, in RunOnce
	watch      watch
	reporting  reader.Reporting
}

// New checks the configuration and fills in its defaults.
func New(cfg Config) (*Deliverer, error) {
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, 1)
	cfg.SaveEvery = cmp.Or(cfg.SaveEvery, 1)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.Timeout = cmp.Or(cfg.Timeout, time.Minute)
	cfg.retryFirst = cmp.Or(cfg.retryFirst, 100*time.Millisecond)
	cfg.retryMost = cmp.Or(cfg.retryMost, 30*time.Second)
	cfg.grace = cmp.Or(cfg.grace, loop.Grace)
	cfg.saveWithin = cmp.Or(cfg.saveWithin, time.Second)
	cfg.beatPause = cmp.Or(cfg.beatPause, beatPause)
	_, parks := cfg.Checkpoints.(parker)
	_, starts := cfg.Checkpoints.(starter)
	if err := cfg.Schema.Check(); err != nil {
		return nil, fmt.Errorf("deliverer: Config.Schema: %w", err)
	}
	if err := checkOnly(cfg.Only); err != nil {
		return nil, err
	}
	switch {
	case cfg.Name == "":
		return nil, errors.New("deliverer: Config.Name is required")
	case !unilog.StorableText(cfg.Name):
		return nil, fmt.Errorf("deliverer: Config.Name %w", unilog.ErrInvalidText)
	case cfg.Log == nil:
		return nil, errors.New("deliverer: Config.Log is required")
	case cfg.Deliver == nil:
		return nil, errors.New("deliverer: Config.Deliver is required")
	case cfg.Checkpoints == nil:
		return nil, errors.New("deliverer: Config.Checkpoints is required")
	case cfg.BatchRecords < 1 || cfg.BatchRecords > 100_000:
		return nil, fmt.Errorf("deliverer: Config.BatchRecords is %d: it must be from 1 to 100,000", cfg.BatchRecords)
	case cfg.SaveEvery < 1 || cfg.SaveEvery > 100_000:
		return nil, fmt.Errorf("deliverer: Config.SaveEvery is %d: it must be from 1 to 100,000", cfg.SaveEvery)
	case cfg.Timeout < time.Millisecond:
		return nil, fmt.Errorf("deliverer: Config.Timeout is %v: it must be at least 1ms", cfg.Timeout)
	case cfg.Attempts < 0:
		return nil, fmt.Errorf("deliverer: Config.Attempts is %d: it must be 0, for ever, or more", cfg.Attempts)
	case cfg.Start.Check() != nil:
		return nil, fmt.Errorf("deliverer: Config.Start: %w", cfg.Start.Check())
	case !cfg.Start.Time.IsZero() && cfg.Archive == nil:
		return nil, errors.New("deliverer: Config.Start.Time needs Config.Archive, which knows when records were numbered")
	case cfg.Start != (unilog.Start{}) && !starts:
		return nil, errors.New("deliverer: Config.Start needs to register all partitions at once: use PostgresCheckpoints or FileCheckpoints as its Checkpoints")
	case cfg.RetryHalted < 0:
		return nil, fmt.Errorf("deliverer: Config.RetryHalted is %v: it must be 0, not to retry, or more", cfg.RetryHalted)
	case cfg.ParkRejected && !parks:
		return nil, errors.New("deliverer: Config.ParkRejected needs a table for dead letters: use PostgresCheckpoints as its Checkpoints")
	}
	d := &Deliverer{cfg: cfg, log: cfg.Logger.With("consumer", cfg.Name)}
	d.reporting = reader.Reporting{Name: cfg.Name, Log: cfg.Log, Places: d.places, Failed: cfg.Observer.unreported, Logger: d.log}
	return d, nil
}

func checkOnly(kinds []unilog.Kind) error {
	for i, kind := range kinds {
		switch kind.Object {
		case "":
			return fmt.Errorf("deliverer: Config.Only[%d].Object is required", i)
		case unilog.ReservedObject:
			return fmt.Errorf("deliverer: Config.Only[%d].Object %w", i, unilog.ErrReserved)
		}
	}
	return nil
}

// partitionsPause is how often Run asks whether the log has more partitions.
const partitionsPause = time.Second

// Run delivers all partitions of the log, each in its order, until ctx ends.
// Then it gives the calls in hand 4 seconds, and returns nil, after 5 seconds also if
// one of them has not returned.
//
// It goes on through the loss of the log and of its checkpoints' database, and
// returns an error only where a person must decide: a [unilog.RejectedError], a
// [unilog.GapError], a [unilog.CheckpointAheadError], a [ForeignCheckpointError], a
// [unilog.ForeignLogError], a [unilog.FormatError] or a [unilog.NotArchivedError]; see also [Config.RetryHalted]. A
// GapError of one partition of several holds up that one alone: it is not ready, and tries
// again every 10 seconds. While the log is ahead of its source, it waits, and logs a
// [unilog.LogAheadError].
//
// What a person does to it by package consumer, whose In has Seek, Pause, Skip and Requeue,
// is heeded within a second, with [PostgresCheckpoints].
func (d *Deliverer) Run(ctx context.Context) error {
	ctx, halt := context.WithCancel(ctx)
	defer halt()
	work, stop := loop.Outlive(ctx, loop.ShutdownTimeout-loop.FarewellTimeout)
	defer stop()
	var running sync.WaitGroup
	d.watch.begin(ctx)
	running.Go(func() { d.keepBeating(ctx) })
	running.Go(func() { d.keepWatching(ctx) })
	running.Go(func() { d.reporting.Keep(ctx) })
	catchUp := reader.CatchUp{Readers: d.readers, Logger: d.log}
	running.Go(func() { catchUp.Keep(ctx) })
	halted := make(chan error, 1)
	for n := 0; ctx.Err() == nil; loop.Sleep(ctx, partitionsPause) {
		partitions, err := d.look(ctx)
		if errors.As(err, new(*unilog.NotArchivedError)) || errors.As(err, new(*unilog.FormatError)) {
			if d.cfg.RetryHalted == 0 {
				halted <- err
				halt()
				break
			}
			loop.Sleep(ctx, d.cfg.RetryHalted)
		}
		if err != nil && ctx.Err() == nil {
			d.log.Warn("could not ask how many partitions there are: trying again", "err", err)
		}
		for ; n < len(partitions); n++ {
			p := partitions[n]
			p.several = len(partitions) > 1
			running.Go(func() {
				if err := p.run(ctx, work); err != nil {
					select {
					case halted <- err:
					default: // another partition was first
					}
					halt()
				}
			})
		}
	}
	running.Wait()
	select {
	case err := <-halted:
		return err
	default:
		return nil
	}
}

// RunOnce delivers one batch of each partition, without waiting for it, and
// returns how many entries it delivered or passed over. Called again after an error, it goes on
// from the checkpoints.
func (d *Deliverer) RunOnce(ctx context.Context) (n int, err error) {
	if time.Since(d.heartbeat) >= loop.Heartbeat {
		if err := d.beat(ctx); err != nil {
			return 0, err
		}
	}
	partitions, err := d.look(ctx)
	if err == nil {
		err = d.heed(ctx)
	}
	for _, p := range partitions {
		m, failed := p.step(ctx, ctx, 0)
		if failed == nil {
			failed = p.flush(ctx)
		}
		n += m
		err = errors.Join(err, failed)
	}
	d.reporting.Once(ctx)
	return n, err
}

// beatPause is the time between two heartbeats. Where nothing is delivered, they alone
// show that the database of the checkpoints still takes writes.
const beatPause = loop.Heartbeat / 3

// keepBeating shows that the deliverer is alive, whether or not it can read the log.
func (d *Deliverer) keepBeating(ctx context.Context) {
	retry := loop.Backoff{First: 100 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		err := d.beat(ctx)
		d.beating.Note(ctx, err)
		if err == nil {
			retry.Reset()
			loop.Sleep(ctx, d.cfg.beatPause)
			continue
		}
		d.log.Debug("could not show that the deliverer is alive", "err", err)
		retry.Wait(ctx)
	}
}

func (d *Deliverer) beat(ctx context.Context) error {
	b, ok := d.cfg.Checkpoints.(beater)
	if !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	err := b.beat(ctx, d.cfg.Name)
	if err == nil {
		d.heartbeat = time.Now()
	}
	return err
}

// look asks the log for its partitions, and returns those that are known, also after
// an error. They only become more.
func (d *Deliverer) look(ctx context.Context) ([]*delivering, error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	head, err := d.cfg.Log.Head(ctx, 0)
	if err != nil {
		err = &unilog.LogError{Call: "read the log's head", Err: err}
	}
	if err == nil {
		err = d.start(ctx)
	}
	d.readiness.Note(ctx, err)
	d.mu.Lock()
	defer d.mu.Unlock()
	for err == nil && len(d.partitions) < max(1, head.Partitions) {
		d.partitions = append(d.partitions, newDelivering(d, len(d.partitions)))
	}
	return d.partitions, err
}

func (d *Deliverer) readers() (all []*reader.Reader) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, p := range d.partitions {
		all = append(all, p.reader)
	}
	return all
}

// Ready returns nil if the last attempt to read and deliver a batch succeeded in each
// partition, and the checkpoints can be saved. Otherwise it says in one line what is wrong
// with one of them. Ready is safe for concurrent use with everything else.
func (d *Deliverer) Ready() error {
	if err := d.beating.Ready(); err != nil && !errors.Is(err, loop.ErrNotLooked) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.partitions) == 0 {
		return cmp.Or(d.readiness.Ready(), loop.ErrNotLooked)
	}
	for _, p := range d.partitions {
		if err := p.readiness.Ready(); err != nil {
			return err
		}
	}
	return nil
}
