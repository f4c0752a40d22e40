package streamer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
)

// Config says what a streamer reads and writes. DB and Log are required.
type Config struct {
	// DB is the database that records are staged in. The leader of a partition
	// keeps a connection of the pool for itself. Where there are several partitions,
	// the leader of the first one keeps one more, and so does each streamer.
	DB *pgxpool.Pool
	// Log is where the records go.
	Log unilog.Log
	// BatchRecords bounds a batch, in records: 1 to 100,000, default 5,000. A
	// batch is also bounded to about 4 MiB.
	BatchRecords int
	// KeepRecords is how many of the last records the log keeps at least:
	// default 10,000. It keeps more for consumers of this database that have
	// not applied them, up to a hundred times as many; from there on they read
	// the archive.
	KeepRecords int64
	// Retention is how long the archive keeps a record at least: default 24
	// hours. It keeps longer what a consumer of this database has not applied,
	// unless that consumer has been silent for longer than ConsumerExpiry.
	Retention time.Duration
	// ConsumerExpiry is how long a consumer may be silent before nothing is
	// kept for it any more: default 7 days, at least a minute. A consumer shows
	// that it is alive with each batch, and else about every 30 seconds.
	ConsumerExpiry time.Duration
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
	// ChunkRecords is how many offsets a chunk of the archive spans.
	chunkRecords int64
	// upkeepPause is the constant of this name, but for tests.
	upkeepPause time.Duration
}

// Streamer moves staged records to the log: it numbers them, publishes them,
// and trims what is no longer needed. Any number may run; each partition has one
// leader, and no streamer leads more than its share of them, rounded up.
//
// A Streamer is not safe for concurrent use, but for its Ready.
type Streamer struct {
	cfg  Config
	log  *slog.Logger
	seat seats

	// publishers are those of the partitions that it knows of.
	mu         sync.Mutex
	publishers []*publisher
}

const (
	// idleMost bounds the pause between looks at an empty staging table of a leader
	// that cannot sleep.
	idleFirst, idleMost = time.Millisecond, 20 * time.Millisecond
	// standbyPause is the time between a standby's attempts to lead.
	standbyPause = 250 * time.Millisecond
	// standbyTimeout bounds a standby's look at the log.
	standbyTimeout = time.Second
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
	cfg.KeepRecords = cmp.Or(cfg.KeepRecords, 10_000)
	cfg.Retention = cmp.Or(cfg.Retention, 24*time.Hour)
	cfg.ConsumerExpiry = cmp.Or(cfg.ConsumerExpiry, 7*24*time.Hour)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.SessionTimeout = cmp.Or(cfg.SessionTimeout, 1500*time.Millisecond)
	cfg.upkeepPause = cmp.Or(cfg.upkeepPause, upkeepPause)
	cfg.appendRecords = cmp.Or(cfg.appendRecords, 2500)
	cfg.chunkRecords = cmp.Or(cfg.chunkRecords, archive.ChunkRecords)
	switch {
	case cfg.BatchRecords < 1 || cfg.BatchRecords > 100_000:
		return nil, fmt.Errorf("streamer: Config.BatchRecords is %d: it must be from 1 to 100,000", cfg.BatchRecords)
	case cfg.KeepRecords < 1:
		return nil, fmt.Errorf("streamer: Config.KeepRecords is %d: it must be 1 or more", cfg.KeepRecords)
	case cfg.Retention < 0:
		return nil, fmt.Errorf("streamer: Config.Retention is %v: it must not be negative", cfg.Retention)
	case cfg.SessionTimeout < leastSessionTimeout:
		return nil, fmt.Errorf("streamer: Config.SessionTimeout is %v: it must be at least %v", cfg.SessionTimeout, leastSessionTimeout)
	case cfg.ConsumerExpiry < 2*loop.Heartbeat:
		return nil, fmt.Errorf("streamer: Config.ConsumerExpiry is %v: it must be at least %v", cfg.ConsumerExpiry, 2*loop.Heartbeat)
	}
	s := &Streamer{cfg: cfg, log: cfg.Logger, seat: seats{quota: 1}}
	s.know(1)
	return s, nil
}

// know makes publishers for partitions that it has not known of, and returns them.
func (s *Streamer) know(partitions int) []*publisher {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.publishers)
	for i := before; i < partitions; i++ {
		s.publishers = append(s.publishers, newPublisher(s.cfg, i))
	}
	return s.publishers[before:]
}

func (s *Streamer) known() []*publisher {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.publishers)
}

// Run streams until ctx ends. Then it finishes the batches in hand, within
// 5 seconds, and returns nil.
//
// It goes on through the loss of Postgres, of the log and of its leadership,
// and returns an error only where a person must decide: a [unilog.LogAheadError], a
// [unilog.DivergedError], a [unilog.ForeignLogError] or a [unilog.LogSettingError].
func (s *Streamer) Run(ctx context.Context) error {
	// What is begun is finished although ctx has ended.
	work, stop := loop.Outlive(ctx, loop.ShutdownTimeout)
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	var start func(publishers []*publisher)
	var share sync.Once
	start = func(publishers []*publisher) {
		for _, p := range publishers {
			group.Go(func() error {
				return p.run(ctx, work, &s.seat, func(partitions int) {
					if partitions > 1 {
						share.Do(func() { group.Go(func() error { s.shareOut(ctx); return nil }) })
					}
					start(s.know(partitions))
				})
			})
		}
	}
	start(s.known())
	return group.Wait()
}

// RunOnce takes the lead of each partition if nobody has it and publishes a batch
// of it. The database learns of it from the next call, which numbers a batch or
// finds none. It returns the number of records that it published, 0 if there was
// nothing to do, and [unilog.ErrStandby] if other streamers lead all partitions.
//
// After any error, RunOnce may be called again: what was numbered is published
// exactly once in the end.
func (s *Streamer) RunOnce(ctx context.Context) (total int, err error) {
	leads := false
	for i := 0; i < len(s.publishers); i++ {
		p := s.publishers[i]
		n, err := p.runOnce(ctx)
		total += n
		s.know(p.partitions)
		if errors.Is(err, unilog.ErrStandby) {
			continue
		}
		if err != nil {
			return total, err
		}
		leads = true
	}
	if !leads {
		return 0, unilog.ErrStandby
	}
	return total, nil
}

// Close gives up the lead of all partitions, so that another streamer can lead at
// once, within some seconds if Postgres does not answer. It is for who calls RunOnce;
// Run does so itself. A later RunOnce takes the lead again.
func (s *Streamer) Close() {
	for _, p := range s.publishers {
		p.farewell(context.Background())
	}
}

// Ready returns nil if the last batch of each partition, or look for one, went
// well, or if another streamer leads. Else it says in one line why this one cannot
// publish. A call that gets no answer is noticed when its time is over. Ready is
// safe for concurrent use with everything else.
func (s *Streamer) Ready() error {
	for _, p := range s.known() {
		if err := p.readiness.Ready(); err != nil {
			return err
		}
	}
	return nil
}
