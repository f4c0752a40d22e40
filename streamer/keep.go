package streamer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/retention"
)

// upkeep is what is remembered of it from one time to the next.
type upkeep struct {
	mu        sync.Mutex
	at        time.Time
	looked    time.Time       // when the database was last asked what is needed
	published int64           // by all leaders together, then
	complaint string          // the last failure, reported
	refused   error           // by Postgres, at the last look: nothing is trimmed until it is mended
	expired   map[string]bool // consumers that nothing is kept for, reported
	trimmed   map[int]trimmed
}

// trimmed is for what a partition's log was last trimmed.
type trimmed struct {
	published, applied int64
	upTo               int64
}

const (
	// trimAtOnce is how many partitions are trimmed at the same time.
	trimAtOnce = 16
	// seldom is how many upkeeps pass between two that do what is not urgent.
	seldom = 10
)

// keep trims the log from time to time, until ctx ends. As long as there is nothing to
// lead, it looks whether the log can be reached instead.
func (s *Streamer) keep(ctx context.Context, r *reign) {
	for ctx.Err() == nil {
		loop.Sleep(ctx, s.cfg.upkeepPause)
		if ctx.Err() != nil {
			return
		}
		switch {
		case len(r.all()) > 0:
			s.keepOnce(ctx, r)
		case !s.failing(): // else it tries to lead, and says how that goes
			s.keepReady(ctx)
		}
	}
}

// keepReady looks at the log while another streamer leads. Else a connection that a
// firewall has long dropped would be found only by the first call of a new leader, which
// would wait for it in vain.
func (s *Streamer) keepReady(ctx context.Context) {
	if time.Since(s.upkeep.at) < s.cfg.upkeepPause {
		return
	}
	s.upkeep.at = time.Now()
	bounded, cancel := context.WithTimeout(ctx, standbyTimeout)
	defer cancel()
	_, err := s.cfg.Log.Head(bounded, 0)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		s.log.Warn("standing by, and the log cannot be reached", "err", err)
		err = &unilog.LogError{Call: "read the log's head", Err: err}
	}
	s.standing.Note(ctx, err)
}

// keepOnce trims the log of what nobody needs there, if it is time. What fails is
// reported and tried again: records are published all the same.
func (s *Streamer) keepOnce(ctx context.Context, r *reign) {
	u := &s.upkeep
	s.standing.Note(ctx, u.refused)
	if time.Since(u.at) < s.cfg.upkeepPause {
		return
	}
	u.at = time.Now()
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	complaint := ""
	u.refused = nil
	if err := s.trim(ctx, r); err != nil && !errors.Is(ctx.Err(), context.Canceled) {
		u.looked = time.Time{}
		if hidden := new(postgres.HiddenError); postgres.HasNoRight(err) || errors.As(err, &hidden) {
			u.refused = err
		}
		if complaint = loop.OneLine(postgres.Explain(err)).Error(); complaint != u.complaint {
			s.log.Warn("upkeep failed: records are published all the same", "err", complaint)
		}
	}
	u.complaint = complaint
	s.standing.Note(ctx, u.refused)
}

// trim seldom asks what is needed while nothing is published.
func (s *Streamer) trim(ctx context.Context, r *reign) error {
	published := int64(0)
	for _, l := range r.all() {
		published += l.published.Load()
	}
	u := &s.upkeep
	if published == u.published && time.Since(u.looked) < seldom*s.cfg.upkeepPause {
		return nil
	}
	u.published, u.looked = published, time.Now()
	if err := s.cfg.rule().Note(ctx, s.cfg.DB, s.cfg.Log); err != nil {
		return err
	}
	needs, err := s.cfg.rule().Look(ctx, s.cfg.DB)
	if err != nil {
		return err
	}
	s.upkeep.report(s, needs.Expired)
	var group errgroup.Group
	group.SetLimit(trimAtOnce)
	for _, l := range r.all() {
		group.Go(func() error { return s.upkeep.trim(ctx, l, needs.Partitions[l.partition]) })
	}
	return group.Wait()
}

// report says once of each consumer that nothing is kept for it any more.
func (u *upkeep) report(s *Streamer, expired map[string]int64) {
	for name, offset := range expired {
		if !u.expired[name] {
			s.log.Warn("consumer has expired: nothing is kept for it any more",
				"consumer", name, "offset", offset, "expiry", s.cfg.ConsumerExpiry)
		}
	}
	u.expired = map[string]bool{}
	for name := range expired {
		u.expired[name] = true
	}
}

// trim trims the log of a partition.
func (u *upkeep) trim(ctx context.Context, l *leader, n retention.Need) error {
	now := trimmed{published: l.published.Load(), applied: -1}
	if n.Applied != nil {
		now.applied = *n.Applied
	}
	u.mu.Lock()
	before := u.trimmed[l.partition]
	u.mu.Unlock()
	if now.published == before.published && now.applied == before.applied {
		return nil
	}
	n.Published = now.published
	var err error
	if now.upTo, err = l.cfg.rule().Logged(ctx, l.cfg.DB, l.partition, n); err != nil {
		return err
	}
	if now.upTo > before.upTo {
		err := l.call(ctx, "trim the log", func(ctx context.Context) error { return l.cfg.Log.Trim(ctx, l.partition, now.upTo) })
		if err != nil {
			return err
		}
	}
	now.upTo = max(now.upTo, before.upTo)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trimmed == nil {
		u.trimmed = map[int]trimmed{}
	}
	u.trimmed[l.partition] = now
	return nil
}
