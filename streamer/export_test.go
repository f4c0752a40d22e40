package streamer

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

// WithChunkRecords makes the archive's chunks small enough for a test.
func WithChunkRecords(cfg Config, records int64) Config {
	cfg.chunkRecords = records
	return cfg
}

// WithAppendRecords makes the parts of a batch small enough for a test.
func WithAppendRecords(cfg Config, records int) Config {
	cfg.appendRecords = records
	return cfg
}

// WithUpkeepPause lets a leader look after its log more often, or less.
func WithUpkeepPause(cfg Config, d time.Duration) Config {
	cfg.upkeepPause = d
	return cfg
}

// WithoutClock makes a leader that sleeps do so until a writer wakes it.
func WithoutClock(cfg Config) Config {
	cfg.SessionTimeout, cfg.upkeepPause = time.Hour, time.Hour
	return cfg
}

// Upkeep does what a leader does once a second.
func (s *Streamer) Upkeep(ctx context.Context) error {
	p := s.publishers[0]
	_, err := p.asLeader(ctx, func(ctx context.Context) (int, error) { return 0, p.upkeep(ctx) })
	return err
}

// SweepSoon makes the next upkeep look for rows below the low-water mark.
func (s *Streamer) SweepSoon() { s.publishers[0].lead.low.swept = time.Time{} }

// Unseen makes the leader show Postgres that it lives before its next call to the log,
// and fail, as in Run, if its session has ended.
func (s *Streamer) Unseen() {
	p := s.publishers[0]
	p.runs, p.lead.seen = true, time.Time{}
}

// Term returns the term that the streamer believes it leads in.
func (s *Streamer) Term() unilog.Term { return s.publishers[0].lead.term }

// Age makes the last sign of life of a leader, of each partition, older.
func (s *Streamer) Age(d time.Duration) {
	for _, p := range s.publishers {
		p.lead.seen = p.lead.seen.Add(-d)
	}
}

// Sessions are those of a partition's leader: its own, and the one that numbers for
// all partitions.
func (s *Streamer) Sessions(partition int) []*pgx.Conn {
	l := s.publishers[partition].lead
	if l.numberer == nil {
		return []*pgx.Conn{l.conn}
	}
	return []*pgx.Conn{l.conn, l.numberer.conn}
}

// Numbering is closed when who numbers for all partitions has ended. Call it from a
// hook.
func (s *Streamer) Numbering() <-chan struct{} { return s.publishers[0].lead.numberer.done }

// Notifications takes out those that a leader's session keeps, and counts them.
func (s *Streamer) Notifications(partition int) (n int) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	for {
		if _, err := s.publishers[partition].lead.conn.WaitForNotification(over); err != nil {
			return n
		}
		n++
	}
}

// The statements that run in loops, for a look at their plans.
const (
	SQLNumber     = sqlNumber
	SQLArchived   = archive.SQLArchived
	SQLNumberMany = sqlNumberMany
	SQLStaged     = sqlStaged
	SQLProbe      = sqlProbe
	SQLRecord     = sqlRecord

	SQLTrouble   = sqlTrouble
	SQLNoTrouble = sqlNoTrouble
)

// Leads says whether the streamer believes that it leads.
func (s *Streamer) Leads() bool { return s.publishers[0].lead != nil }
