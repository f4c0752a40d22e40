package streamer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/retention"
)

// Config says what a streamer reads and writes. DB and Log are required.
type Config struct {
	// DB is the database that records are staged in. Beside the pool's connections,
	// which it uses for moments, a streamer makes two of its own like them, whatever the
	// number of partitions: one that holds its locks, and, if it is elected, one that
	// numbers.
	DB *pgxpool.Pool
	// Log is where the records go.
	Log unilog.Log
	// Schema is the one that the log's tables are in: default [unilog.DefaultSchema].
	Schema unilog.Schema
	// BatchRecords bounds a batch, in records: 1 to 100,000, default 5,000. A
	// batch is also bounded to about 4 MiB.
	BatchRecords int
	// KeepRecords is how many of the last records the log keeps at least:
	// default 10,000. It keeps more for consumers of this database that have
	// not applied them, up to a hundred times as many; from there on they read
	// the archive.
	KeepRecords int64
	// KeepBytes bounds all that the log keeps of a partition, in bytes of the records'
	// fields: default 256 MiB. The archive has the rest. A log that is out of memory
	// keeps less.
	KeepBytes int64
	// Retention is how long the archive keeps a record at least: default 24
	// hours. It keeps longer what a consumer of this database has not applied,
	// unless that consumer has been silent for longer than ConsumerExpiry.
	Retention time.Duration
	// ConsumerExpiry is how long a consumer may be silent before nothing is
	// kept for it any more: default 7 days, at least a minute. A consumer shows
	// that it is alive with each batch, and else about every 30 seconds.
	ConsumerExpiry time.Duration
	// KeepForReports also keeps, in log and archive, what consumers elsewhere have not
	// applied that report through the log, until they are silent for as long, or
	// forgotten: see [unilog.Reporter]. By default nothing is kept for them.
	KeepForReports bool
	// SessionTimeout is how long a leader may be silent before Postgres ends its
	// session, so that another streamer may lead: default 1.5 seconds, at least 100
	// milliseconds. A leader that is only slow is deposed, too, which does no harm.
	SessionTimeout time.Duration
	// Logger gets what happens: default slog.Default().
	Logger *slog.Logger
	// Hooks are called between the steps; none by default.
	Hooks Hooks
	// Observer is told what happens; nobody by default.
	Observer Observer

	// appendRecords bounds one append of a batch, in records, and so the time
	// for which it holds the log.
	appendRecords int
	// walkIDs is how many ids of rows that are gone a step rather walks over than to look
	// who may still commit some of them.
	walkIDs int64
	// upkeepPause is the constant of this name, but for tests.
	upkeepPause time.Duration
	// confirm is how long a consumer must have been seen silent that expires. It is
	// retention's, except in tests.
	confirm time.Duration
	watch   *retention.Watch
}

// Streamer moves staged records to the log: it numbers them, publishes them,
// and trims what is no longer needed. Any number may run; one of them numbers, each
// partition has one leader, and no streamer leads more than its share of them, rounded
// up.
//
// A Streamer is not safe for concurrent use, but for its Ready.
type Streamer struct {
	cfg       Config
	log       *slog.Logger
	readiness loop.Readiness // of its session
	standing  loop.Readiness // of the log, while it stands by
	parts
	upkeep upkeep

	// What RunOnce keeps from one call to the next.
	reign    *reign
	numberer *numberer
	used     time.Time
}

const (
	// upkeepPause is the time between looks at the log's head and trimming.
	upkeepPause = time.Second

	// leastSessionTimeout is a few round trips.
	leastSessionTimeout = 100 * time.Millisecond
)

// New checks the configuration and fills in its defaults.
func New(cfg Config) (*Streamer, error) {
	if cfg.DB == nil {
		return nil, errors.New("streamer: Config.DB is required")
	}
	if cfg.Log == nil {
		return nil, errors.New("streamer: Config.Log is required")
	}
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, 5000)
	cfg.KeepRecords = cmp.Or(cfg.KeepRecords, retention.KeepRecords)
	cfg.KeepBytes = cmp.Or(cfg.KeepBytes, retention.KeepBytes)
	cfg.Retention = cmp.Or(cfg.Retention, 24*time.Hour)
	cfg.ConsumerExpiry = cmp.Or(cfg.ConsumerExpiry, retention.ConsumerExpiry)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.SessionTimeout = cmp.Or(cfg.SessionTimeout, 1500*time.Millisecond)
	cfg.upkeepPause = cmp.Or(cfg.upkeepPause, upkeepPause)
	cfg.watch = &retention.Watch{Confirm: cfg.confirm}
	cfg.walkIDs = cmp.Or(cfg.walkIDs, 1000)
	cfg.appendRecords = cmp.Or(cfg.appendRecords, 2500)
	if err := cfg.Schema.Check(); err != nil {
		return nil, fmt.Errorf("streamer: Config.Schema: %w", err)
	}
	switch {
	case cfg.BatchRecords < 1 || cfg.BatchRecords > 100_000:
		return nil, fmt.Errorf("streamer: Config.BatchRecords is %d: it must be from 1 to 100,000", cfg.BatchRecords)
	case cfg.KeepRecords < 1:
		return nil, fmt.Errorf("streamer: Config.KeepRecords is %d: it must be 1 or more", cfg.KeepRecords)
	case cfg.KeepBytes < 1:
		return nil, fmt.Errorf("streamer: Config.KeepBytes is %d: it must be 1 or more", cfg.KeepBytes)
	case cfg.Retention < 0:
		return nil, fmt.Errorf("streamer: Config.Retention is %v: it must not be negative", cfg.Retention)
	case cfg.SessionTimeout < leastSessionTimeout:
		return nil, fmt.Errorf("streamer: Config.SessionTimeout is %v: it must be at least %v", cfg.SessionTimeout, leastSessionTimeout)
	case cfg.ConsumerExpiry < 2*loop.Heartbeat:
		return nil, fmt.Errorf("streamer: Config.ConsumerExpiry is %v: it must be at least %v", cfg.ConsumerExpiry, 2*loop.Heartbeat)
	}
	return &Streamer{cfg: cfg, log: cfg.Logger, parts: parts{known: map[int]*part{}}}, nil
}

// rule is what of the configuration says how much is kept.
func (c *Config) rule() retention.Rule {
	return retention.Rule{
		Schema: c.Schema, KeepRecords: c.KeepRecords, KeepBytes: c.KeepBytes,
		ConsumerExpiry: c.ConsumerExpiry, KeepForReports: c.KeepForReports, Watch: c.watch,
	}
}

// Run streams until ctx ends. Then it finishes the batches in hand, within
// 5 seconds, and returns nil.
//
// It goes on through the loss of Postgres, of the log and of its leadership,
// and returns an error only where a person must decide: a [unilog.LogAheadError], a
// [unilog.DivergedError], a [unilog.ForeignLogError], a [unilog.FormatError], a
// [unilog.LogSettingError], a [unilog.SequenceSettingError] or [unilog.ErrPooled].
func (s *Streamer) Run(ctx context.Context) error {
	s.Close() // what RunOnce has left
	// What is begun is finished although ctx has ended.
	work, stop := loop.Outlive(ctx, loop.ShutdownTimeout)
	defer stop()
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		began := time.Now()
		err := postgres.Reconnect(s.cfg.DB, s.runReign(ctx, work))
		if err == nil {
			continue
		}
		if needsDecision(err) {
			return err
		}
		s.readiness.Note(ctx, err)
		s.cfg.Observer.failed(err)
		s.log.Warn("streaming failed: trying again", "err", err)
		if time.Since(began) > loop.CallTimeout {
			retry.Reset()
		}
		retry.Wait(ctx)
	}
	return nil
}

// runReign streams for as long as a session lasts.
func (s *Streamer) runReign(ctx, work context.Context) error {
	r, err := s.newReign(work)
	if err != nil {
		return err
	}
	defer r.end()
	e := &elector{reign: r, streamer: s, work: work, workers: map[int]*worker{}, ended: make(chan ended, maxParts)}
	return e.run(ctx)
}

// maxParts is how many parts a streamer's work has at the most.
const maxParts = 1 + 1024

// leadWhile leads a partition until ctx ends, and then finishes the batch in hand.
func (s *Streamer) leadWhile(ctx, work context.Context, r *reign, partition int) error {
	l, err := r.begin(work, partition, s.part(partition))
	if err != nil {
		return err
	}
	r.add(l)
	defer r.retire(l)
	if err := l.run(ctx, work); err != nil {
		return err
	}
	if err := r.record(work); err != nil {
		l.log.Debug("could not record what is published: it will be sent again, and refused", "err", err)
	}
	return nil
}

// numberWhile numbers until ctx ends.
func (s *Streamer) numberWhile(ctx, work context.Context, r *reign) error {
	n, err := r.beginNumbering(work, s.part(theNumberer))
	if err != nil {
		return err
	}
	defer n.close()
	return n.run(ctx, work)
}

// Close gives up the lead of all partitions, so that another streamer can lead at
// once, within some seconds if Postgres does not answer. It is for who calls RunOnce;
// Run does so itself. A later RunOnce takes the lead again.
func (s *Streamer) Close() {
	if s.reign == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
	defer cancel()
	if err := s.reign.record(ctx); err != nil {
		s.log.Debug("could not record what is published: it will be sent again, and refused", "err", err)
	}
	s.drop()
}

// Ready returns nil if the last batch of each partition, or look for one, went
// well, or if another streamer leads. Else it says in one line why this one cannot
// publish. A call that gets no answer is noticed when its time is over. Ready is
// safe for concurrent use with everything else.
func (s *Streamer) Ready() error {
	if err := s.readiness.Ready(); err != nil {
		return err
	}
	if err := s.standing.Ready(); err != nil && !errors.Is(err, loop.ErrNotLooked) {
		return err
	}
	return s.ready()
}
