package streamer

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/retention"
)

// WithAppendRecords makes the parts of a batch small enough for a test.
func WithAppendRecords(cfg Config, records int) Config {
	cfg.appendRecords = records
	return cfg
}

// WithWalk bounds the ids that a step of numbering walks over.
func WithWalk(cfg Config, ids int64) Config {
	cfg.walkIDs = ids
	return cfg
}

// WithUpkeepPause lets a streamer look after its log more often, or less.
func WithUpkeepPause(cfg Config, d time.Duration) Config {
	cfg.upkeepPause = d
	return cfg
}

// WithConfirm lets a consumer expire that a streamer has seen silent for another time.
func WithConfirm(cfg Config, d time.Duration) Config {
	cfg.confirm = d
	return cfg
}

// WithoutClock makes a numberer that sleeps do so until a writer wakes it.
func WithoutClock(cfg Config) Config {
	cfg.SessionTimeout, cfg.upkeepPause = time.Hour, time.Hour
	return cfg
}

// Upkeep does what a streamer does once a second or less often, and publishes a batch. What
// was put off since it took too long is an error here.
func (s *Streamer) Upkeep(ctx context.Context) error {
	s.upkeep.at, s.upkeep.looked = time.Time{}, time.Time{}
	if s.numberer != nil {
		s.numberer.upkeptAt, s.numberer.deletedAt = time.Time{}, time.Time{}
	}
	if s.reign != nil {
		for _, l := range s.reign.all() {
			l.upkeptAt = time.Time{}
		}
	}
	_, err := s.RunOnce(ctx)
	if err == nil && (ranOutOfTime(s.upkeep.complaint) || s.numberer != nil && ranOutOfTime(s.numberer.complaint)) {
		return context.DeadlineExceeded
	}
	return err
}

// ranOutOfTime says whether a complaint is that of a slow machine: see world.IsSlow.
func ranOutOfTime(complaint string) bool {
	for _, says := range []string{"deadline exceeded", "statement timeout", "lock timeout", "conn closed", "closed network connection", "i/o timeout"} {
		if strings.Contains(complaint, says) {
			return true
		}
	}
	return false
}

// NextStep is how many records the next step of numbering looks at.
func (s *Streamer) NextStep() int { return s.numberer.limit }

// Straight says whether the next step tries if all records are small.
func (s *Streamer) Straight() bool { return s.numberer.sqlNumber() == sqlNumberSmall }

// SweepSoon makes the next upkeep look for rows below the low-water mark.
func (s *Streamer) SweepSoon() { s.numberer.low.swept = time.Time{} }

// Term returns the term in which the streamer believes that it leads a partition.
func (s *Streamer) Term(partition int) unilog.Term { return s.reign.leaders[partition].term }

// Leads says whether the streamer believes that it leads a partition.
func (s *Streamer) Leads() bool { return s.reign != nil && len(s.reign.leaders) > 0 }

// Sessions are those that RunOnce has: the one with the locks, and the one that numbers.
func (s *Streamer) Sessions() []*pgx.Conn {
	return []*pgx.Conn{s.reign.session.conn, s.numberer.session.conn}
}

// The statements that run in loops, for a look at their plans.
var SQLNumber, SQLNumberSmall = sqlNumber, sqlNumberSmall

const (
	SQLStaged    = sqlStaged
	SQLFit       = retention.SQLFit
	SQLStray     = sqlStray
	SQLRecord    = sqlRecord
	SQLHead      = sqlHead
	SQLCompared  = sqlCompared
	SQLTrouble   = sqlTrouble
	SQLNoTrouble = sqlNoTrouble
)

// High returns the id after which a step searches for what is new.
func (s *Streamer) High() int64 { return s.numberer.low.high }

// GiveBackTooLate gives a partition's lock back when the time for it is over.
func (s *Streamer) GiveBackTooLate(partition int) {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	s.reign.giveBack(over, partition)
}
