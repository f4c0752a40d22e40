package streamer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/locks"
	"github.com/rocketrides/unilog/internal/loop"
)

// seats are the partitions that a streamer leads, or tries to, and how many it
// may: its share, so that all streamers lead about as many.
type seats struct {
	mu    sync.Mutex
	quota int
	taken []int
	// failed is when the log last could not be reached.
	failed time.Time
}

// take says whether a partition has, or gets, one of the seats.
func (s *seats) take(partition int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.taken {
		if p == partition {
			return true
		}
	}
	if len(s.taken) >= s.quota {
		return false
	}
	s.taken = append(s.taken, partition)
	return true
}

// leave gives a partition's seat back, if it has one.
func (s *seats) leave(partition int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, p := range s.taken {
		if p == partition {
			s.taken = append(s.taken[:i], s.taken[i+1:]...)
			return
		}
	}
}

// surplus says whether a partition is to be left to another streamer: the last
// one of those that are too many.
func (s *seats) surplus(partition int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.taken) > s.quota && s.taken[len(s.taken)-1] == partition
}

func (s *seats) allow(quota int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.quota = quota
}

// failPause is how long a streamer that could not reach the log is not counted. As a
// standby it looks sooner than that whether it can.
const failPause = 3 * time.Second

// fail notes that the log could not be reached, if that is why a publisher failed.
func (s *seats) fail(err error) {
	var log *unilog.LogError
	if !errors.As(err, &log) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failed = time.Now()
}

func (s *seats) failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Since(s.failed) < failPause
}

const (
	sqlJoin = `SELECT pg_advisory_lock_shared($1, 0), ` + sqlSession

	// Index: none; a view of what is in memory, and a handful of rows.
	sqlShare = `
SELECT (SELECT count(*) FROM log_partitions), (
    SELECT count(DISTINCT pid) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND classid = $1 AND objid = 0 AND objsubid = 2
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))`
)

// shareOut keeps this streamer's share of the partitions up to date. While it cannot
// reach the log, others lead what would be its share, and it what they cannot.
func (s *Streamer) shareOut(ctx context.Context) {
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	for ctx.Err() == nil {
		if s.seat.failing() {
			s.seat.allow(len(s.known()))
			loop.Sleep(ctx, standbyPause)
			continue
		}
		if err := s.beMember(ctx, retry.Reset); err != nil && ctx.Err() == nil {
			s.log.Warn("could not share the partitions with other streamers: trying again", "err", err)
			retry.Wait(ctx)
		}
	}
}

// beMember is counted by the other streamers, and counts them, until that fails or the
// log cannot be reached.
func (s *Streamer) beMember(ctx context.Context, counted func()) error {
	conn, err := s.join(ctx)
	if err != nil {
		return fmt.Errorf("join the streamers: %w", err)
	}
	defer func() {
		bounded, cancel := context.WithTimeout(context.Background(), loop.FarewellTimeout)
		defer cancel()
		_ = conn.Close(bounded) // the lock ends with the session, whoever ends it
	}()
	for ctx.Err() == nil && !s.seat.failing() {
		bounded, cancel := context.WithTimeout(ctx, loop.CallTimeout)
		var partitions, members int
		err := conn.QueryRow(bounded, sqlShare, locks.Member).Scan(&partitions, &members)
		cancel()
		if err != nil {
			return fmt.Errorf("count the streamers: %w", err)
		}
		counted()
		members = max(members, 1)
		s.seat.allow((partitions + members - 1) / members)
		loop.Sleep(ctx, standbyPause)
	}
	return nil
}

func (s *Streamer) join(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	pooled, err := s.cfg.DB.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	conn := pooled.Hijack()
	silence := fmt.Sprint(s.cfg.SessionTimeout.Milliseconds())
	if _, err := conn.Exec(ctx, sqlJoin, int32(locks.Member), silence); err != nil {
		_ = conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}
