package unilog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// StreamerConfig says what a streamer reads and writes. DB and Log are required.
type StreamerConfig struct {
	// DB is the database that records are staged in. The leader keeps one
	// connection of the pool for itself.
	DB *pgxpool.Pool
	// Log is where the records go.
	Log Log
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
	// Logger gets what happens: default slog.Default().
	Logger *slog.Logger
	// Hooks are called between the steps; none by default.
	Hooks StreamerHooks
	// Observer is told what happens; nobody by default.
	Observer StreamerObserver

	// appendRecords bounds one append of a batch, in records, and so the time
	// for which it holds the log.
	appendRecords int
	// chunkRecords is how many offsets a chunk of the archive spans.
	chunkRecords int64
	// sessionTimeout and upkeepPause are the constants of these names, but for tests.
	sessionTimeout, upkeepPause time.Duration
}

// Streamer moves staged records to the log: it numbers them, publishes them,
// and trims what is no longer needed. Any number may run; one leads.
//
// A Streamer is not safe for concurrent use, but for its Ready.
type Streamer struct {
	cfg       StreamerConfig
	log       *slog.Logger
	readiness readiness

	// lead is nil while this streamer does not lead.
	lead *leadership
	// limit is how many records the next batch has at the most: fewer after a
	// failure, so that a slow network gets something through.
	limit int
	// looked is when a standby last looked at the log.
	looked time.Time
	// runs says that it is in Run: it may number the next batches of a backlog while
	// one is published, and sleep when there is none.
	runs bool
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
	// callTimeout bounds each call to Postgres or to the log.
	callTimeout = 5 * time.Second
	// sessionTimeout is how long a leader may be silent before Postgres ends its
	// session and another streamer may lead. Being short it deposes, in the worst
	// case, a leader that was only slow, which does no harm.
	sessionTimeout = 1500 * time.Millisecond
	// farewellTimeout bounds what a leader that steps down tells Postgres.
	farewellTimeout = time.Second
	// shutdownTimeout bounds the batch in hand after a cancel.
	shutdownTimeout = 5 * time.Second
)

// NewStreamer checks the configuration and fills in its defaults.
func NewStreamer(cfg StreamerConfig) (*Streamer, error) {
	if cfg.DB == nil {
		return nil, errors.New("unilog: StreamerConfig.DB is required")
	}
	if cfg.Log == nil {
		return nil, errors.New("unilog: StreamerConfig.Log is required")
	}
	cfg.BatchRecords = cmp.Or(cfg.BatchRecords, 5000)
	cfg.KeepRecords = cmp.Or(cfg.KeepRecords, 10_000)
	cfg.Retention = cmp.Or(cfg.Retention, 24*time.Hour)
	cfg.ConsumerExpiry = cmp.Or(cfg.ConsumerExpiry, 7*24*time.Hour)
	cfg.Logger = cmp.Or(cfg.Logger, slog.Default())
	cfg.sessionTimeout = cmp.Or(cfg.sessionTimeout, sessionTimeout)
	cfg.upkeepPause = cmp.Or(cfg.upkeepPause, upkeepPause)
	cfg.appendRecords = cmp.Or(cfg.appendRecords, 2500)
	cfg.chunkRecords = cmp.Or(cfg.chunkRecords, 1_000_000)
	switch {
	case cfg.BatchRecords < 1 || cfg.BatchRecords > 100_000:
		return nil, fmt.Errorf("unilog: StreamerConfig.BatchRecords is %d: it must be from 1 to 100,000", cfg.BatchRecords)
	case cfg.KeepRecords < 1:
		return nil, fmt.Errorf("unilog: StreamerConfig.KeepRecords is %d: it must be 1 or more", cfg.KeepRecords)
	case cfg.Retention < 0:
		return nil, fmt.Errorf("unilog: StreamerConfig.Retention is %v: it must not be negative", cfg.Retention)
	case cfg.ConsumerExpiry < 2*heartbeat:
		return nil, fmt.Errorf("unilog: StreamerConfig.ConsumerExpiry is %v: it must be at least %v", cfg.ConsumerExpiry, 2*heartbeat)
	}
	return &Streamer{cfg: cfg, log: cfg.Logger, limit: cfg.BatchRecords}, nil
}

// Run streams until ctx ends. Then it finishes the batch in hand, within
// 5 seconds, and returns nil.
//
// It goes on through the loss of Postgres, of the log and of its leadership,
// and returns an error only where a person must decide: a [LogAheadError], a
// [DivergedError], a [ForeignLogError] or a [LogSettingError].
func (s *Streamer) Run(ctx context.Context) error {
	// What is begun is finished although ctx has ended.
	work, stop := outlive(ctx, shutdownTimeout)
	defer stop()
	s.runs = true
	defer func() {
		s.runs = false
		if s.lead != nil {
			s.lead.settle()
			if err := s.lead.record(work); err != nil {
				s.log.Warn("could not record what is published: it will be sent again, and refused", "err", err)
			}
		}
		s.stepDown()
	}()

	idle := backoff{first: idleFirst, most: idleMost}
	retry := backoff{first: 10 * time.Millisecond, most: time.Second}
	standby := false
	for ctx.Err() == nil {
		n, err := s.RunOnce(work)
		switch {
		case err == nil && n > 0:
			idle.reset()
			retry.reset()
		case err == nil:
			retry.reset()
			s.rest(ctx, &idle)
		case errors.Is(err, ErrStandby):
			if !standby {
				s.log.Info("standing by: another streamer leads")
			}
			sleep(ctx, standbyPause)
		case needsDecision(err):
			return err
		case errors.Is(err, ErrSimulated):
			s.log.Debug("simulated failure: starting again")
		case ctx.Err() != nil:
		default:
			s.log.Warn("streaming failed: trying again", "err", err)
			retry.wait(ctx)
		}
		standby = errors.Is(err, ErrStandby)
	}
	return nil
}

// RunOnce takes the lead if nobody has it and publishes one batch. The database
// learns of it from the next call, which numbers a batch or finds none. It
// returns the number of records that it published, 0 if there was nothing to
// do, and [ErrStandby] if another streamer leads.
//
// After any error, RunOnce may be called again: what was numbered is published
// exactly once in the end.
func (s *Streamer) RunOnce(ctx context.Context) (n int, err error) {
	defer func() {
		s.readiness.note(ctx, err)
		if err != nil && !errors.Is(err, ErrStandby) && ctx.Err() == nil {
			s.cfg.Observer.failed(err)
		}
	}()
	if s.lead != nil && time.Since(s.lead.used) > s.lead.silence {
		s.stepDown() // the caller took its time: Postgres has ended the session
	}
	if s.lead == nil {
		err := s.takeLead(ctx)
		if errors.Is(err, ErrStandby) {
			s.keepReady(ctx)
		}
		if err != nil {
			return 0, err
		}
	}
	n, err = s.step(ctx)
	var fenced *FencedError
	switch {
	case errors.As(err, &fenced):
		s.log.Warn("no longer leading", "epoch", fenced.Epoch, "newer", fenced.Newer)
		s.stepDown()
	case err != nil:
		// What this process holds in memory may differ from what was committed.
		s.giveUp(ctx, err)
		if errors.Is(err, context.DeadlineExceeded) {
			s.limit = max(1, s.limit/2)
		}
	default:
		s.lead.used = time.Now()
		s.clearTrouble(ctx)
		s.limit = min(s.limit+s.limit/8+1, s.cfg.BatchRecords)
	}
	return n, err
}

// keepReady looks at the log now and then while another streamer leads. Else a
// connection that a firewall has long dropped would be found only by the first
// call of a new leader, which would wait for it in vain.
func (s *Streamer) keepReady(ctx context.Context) {
	if time.Since(s.looked) < upkeepPause {
		return
	}
	s.looked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, standbyTimeout)
	defer cancel()
	if _, err := s.cfg.Log.Head(ctx, firstPartition); err != nil {
		s.log.Warn("standing by, and the log cannot be reached", "err", err)
	}
}

// needsDecision says whether trying again is of no use.
func needsDecision(err error) bool {
	var ahead *LogAheadError
	var diverged *DivergedError
	var foreign *ForeignLogError
	var setting *LogSettingError
	return errors.As(err, &ahead) || errors.As(err, &diverged) || errors.As(err, &foreign) || errors.As(err, &setting)
}

// step publishes what is numbered, or else numbers a batch and publishes it.
func (s *Streamer) step(ctx context.Context) (int, error) {
	for {
		if time.Since(s.lead.lastUpkeep) >= s.cfg.upkeepPause {
			s.lead.settle()
			if err := s.upkeep(ctx); err != nil {
				return 0, err
			}
		}
		entries, err := s.nextBatch(ctx)
		if err != nil {
			return 0, err
		}
		s.lead.seen = time.Now()
		if s.runs && len(entries) >= s.limit && s.lead.caughtUp(entries) {
			s.numberAhead(ctx)
		}
		if len(entries) == 0 {
			return 0, s.lead.record(ctx)
		}
		err = s.publish(ctx, entries)
		if errors.Is(err, errRebuilding) {
			continue
		}
		if err != nil {
			return 0, err
		}
		return len(entries), nil
	}
}

// nextBatch returns the entries that follow the last published one: from the
// archive as long as there are any, then by numbering.
func (s *Streamer) nextBatch(ctx context.Context) ([]Entry, error) {
	l := s.lead
	if entries, err := l.takeAhead(); err != nil || len(entries) > 0 {
		if err != nil {
			return nil, err
		}
		return entries, callHook(ctx, s.cfg.Hooks.AfterNumber, entries)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if l.published < l.numbered {
		if err := l.getUp(ctx); err != nil {
			return nil, err
		}
		if err := l.record(ctx); err != nil {
			return nil, err
		}
		entries, err := archived(ctx, l.conn, l.term.Partition, l.published, l.numbered, s.limit)
		if err != nil {
			return nil, err
		}
		if len(entries) == 0 || entries[0].Offset != l.published+1 {
			return nil, fmt.Errorf("unilog: the archive of partition %d lacks offset %d, which is not published", l.term.Partition, l.published+1)
		}
		return entries, nil
	}
	if l.idle {
		staged, err := s.look(ctx)
		if err != nil {
			return nil, err
		}
		if !staged {
			l.low.passedAll()
			return nil, nil
		}
	}
	if err := l.getUp(ctx); err != nil {
		return nil, err
	}
	entries, err := s.numberNext(ctx, s.limit, l.published)
	if err != nil {
		return nil, err
	}
	if l.idle = len(entries) == 0; l.idle {
		return nil, nil
	}
	l.recorded = l.published
	return entries, callHook(ctx, s.cfg.Hooks.AfterNumber, entries)
}

// outlive returns a context that ends a while after ctx does.
func outlive(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		sleep(longer, by)
		cancel()
	})
	return longer, func() { stop(); cancel() }
}
