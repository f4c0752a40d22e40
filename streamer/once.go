package streamer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// RunOnce takes the lead of each partition if nobody has it, numbers if nobody does,
// and publishes a batch of each partition. The database learns of it from the next call,
// which numbers a batch or finds none. It returns the number of records that it
// published, 0 if there was nothing to do, and [unilog.ErrStandby] if other streamers
// lead all partitions, or if there is nothing to publish and another one numbers.
//
// After any error, RunOnce may be called again: what was numbered is published
// exactly once in the end.
func (s *Streamer) RunOnce(ctx context.Context) (total int, err error) {
	if s.reign != nil && time.Since(s.used) > s.cfg.SessionTimeout {
		s.drop() // the caller took its time: Postgres has ended the session
	}
	wasIdle := s.reign != nil
	total, err = s.once(ctx, wasIdle)
	err = postgres.Reconnect(s.cfg.DB, err)
	if wasIdle && err != nil && ctx.Err() == nil && !tookTooLong(err) && s.sessionEnded(err) {
		s.log.Info("the streamer's session has ended between two calls: taking the lead again", "err", err)
		s.drop()
		total, err = s.once(ctx, false)
	}
	s.used = time.Now()
	if err != nil && s.sessionEnded(err) {
		if tookTooLong(err) || ctx.Err() != nil {
			s.giveUpOnPostgres()
		}
		s.drop()
	}
	s.readiness.Note(ctx, err)
	return total, err
}

// once does what RunOnce does in one session. If it was idle, its sessions may have ended
// since, which is not a failure.
func (s *Streamer) once(ctx context.Context, wasIdle bool) (total int, err error) {
	if s.reign == nil {
		if s.reign, err = s.newReign(ctx); err != nil {
			s.cfg.Observer.failed(err)
			return 0, err
		}
	}
	r := s.reign
	defer r.session.keepAlive(s.cfg.SessionTimeout)()
	saw, err := r.look(ctx)
	if err == nil {
		err = r.session.use(ctx, func(context.Context, *pgx.Conn) error { r.session.takeNotifications(); return nil })
	}
	if err == nil {
		err = s.takeNumbering(ctx, saw)
	}
	if err == nil {
		err = s.takeLeads(ctx, saw)
	}
	if err != nil {
		return 0, err
	}
	r.elsewhere.Store(len(saw.led) > r.leads())
	if err := s.compareAnew(ctx); err != nil {
		return 0, err
	}
	if n := s.numberer; n != nil {
		defer n.session.keepAlive(s.cfg.SessionTimeout)()
		if _, err := n.step(ctx, false); err != nil {
			if wasIdle && n.session.conn.IsClosed() {
				return 0, err
			}
			s.dropNumberer()
			return 0, s.give(ctx, ended{theNumberer, err})
		}
		n.part.well(ctx)
	}
	leaders := r.all()
	if len(leaders) == 0 {
		r.oust(ctx)
		s.keepReady(ctx)
		return 0, unilog.ErrStandby
	}
	for _, l := range leaders {
		n, err := l.step(ctx)
		total += n
		if err != nil {
			return total, s.depose(ctx, l, err)
		}
		l.part.well(ctx)
	}
	if total == 0 {
		err = r.record(ctx)
	}
	s.keepOnce(ctx, r)
	if err == nil && total == 0 && s.numberer == nil {
		err = unilog.ErrStandby // what is staged is up to another one
	}
	return total, err
}

// compareAnew lets those compare with the log who have led before this streamer began to
// number, or another one did: else nothing would be numbered for them.
func (s *Streamer) compareAnew(ctx context.Context) error {
	for _, l := range s.reign.all() {
		if l.compared == s.reign.epoch.Load() {
			continue
		}
		if err := l.upkeep(ctx); err != nil {
			return s.depose(ctx, l, err)
		}
	}
	return nil
}

// depose ends the term of a leader that has failed.
func (s *Streamer) depose(ctx context.Context, l *leader, err error) error {
	s.reign.retire(l)
	s.leaveNumbering(ctx)
	return s.give(ctx, ended{l.partition, err})
}

// leaveNumbering lets another streamer number, after a failure, if this one leads nothing:
// who calls RunOnce may not call it again soon.
func (s *Streamer) leaveNumbering(ctx context.Context) {
	if s.numberer == nil || s.reign.leads() > 0 {
		return
	}
	s.dropNumberer()
	if err := s.reign.exec(context.WithoutCancel(ctx), sqlEndNumberer); err != nil {
		s.log.Debug("the session was lost, and its locks with it", "err", err)
	}
}

// takeNumbering numbers from now on, if nobody does.
func (s *Streamer) takeNumbering(ctx context.Context, saw seen) error {
	if s.numberer != nil || saw.numbers {
		return nil
	}
	ok, err := s.reign.tryNumberer(ctx)
	if err != nil || !ok {
		return err
	}
	if s.numberer, err = s.reign.beginNumbering(ctx, s.part(theNumberer)); err != nil {
		return s.give(ctx, ended{theNumberer, err})
	}
	return nil
}

// takeLeads leads the partitions that nobody does.
func (s *Streamer) takeLeads(ctx context.Context, saw seen) error {
	var free []int32
	for p := range saw.partitions {
		if !slices.Contains(saw.led, int64(p)) {
			free = append(free, int32(p))
		}
	}
	free = free[:max(0, min(len(free), saw.ledAtMost()-len(saw.led)))]
	got, err := s.reign.tryLead(ctx, free)
	if err != nil {
		return fmt.Errorf("take the lead: %w", err)
	}
	var failure error
	for _, p := range got {
		l, err := s.reign.begin(ctx, p, s.part(p))
		if err != nil {
			failure = errors.Join(failure, s.give(ctx, ended{p, err}))
			continue
		}
		s.reign.add(l)
	}
	if failure != nil {
		s.leaveNumbering(ctx)
	}
	return failure
}

// give notes the failure of a part, gives its lock back and returns the error.
func (s *Streamer) give(ctx context.Context, over ended) error {
	_ = s.over(ctx, s.reign, over)
	return over.err
}

// sessionEnded says whether Postgres, or the network, has ended a session, or an error
// says that it is of no use any more.
func (s *Streamer) sessionEnded(err error) bool {
	return errors.Is(err, postgres.ErrNotPrimary) || s.reign != nil && s.reign.session.conn.IsClosed() || s.numberer != nil && s.numberer.session.conn.IsClosed()
}

func (s *Streamer) dropNumberer() {
	if s.numberer != nil {
		s.numberer.close()
		s.numberer = nil
	}
}

// giveUpOnPostgres waits for no more answers.
func (s *Streamer) giveUpOnPostgres() {
	s.reign.session.silent.Store(true)
	if s.numberer != nil {
		s.numberer.session.silent.Store(true)
	}
}

// drop forgets all that RunOnce has kept.
func (s *Streamer) drop() {
	s.dropNumberer()
	if s.reign != nil {
		s.reign.end()
		s.reign = nil
	}
}
