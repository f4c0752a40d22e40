package streamer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

const (
	// tickPause is the time between looks who leads.
	tickPause = 250 * time.Millisecond
	// failPause is how long a streamer that could not reach the log is not counted by
	// others. As a standby it looks sooner than that whether it can.
	failPause = 3 * time.Second
	// standbyTimeout bounds a standby's look at the log.
	standbyTimeout = time.Second
)

// theNumberer stands for the work of numbering, among partitions.
const theNumberer = -1

// elector shares the work with other streamers, and keeps a worker for each partition
// that this one leads, and one that numbers if it is elected. It owns the session but
// for what others ask of it.
type elector struct {
	*reign
	streamer *Streamer
	work     context.Context
	workers  map[int]*worker
	ended    chan ended
	standby  bool
	tooMany  bool // partitions for the server's locks, which was said
}

// worker leads a partition, or numbers.
type worker struct {
	stop context.CancelFunc
}

// ended says that a worker has ended, and why.
type ended struct {
	part int
	err  error
}

// run shares the work until ctx ends or the session is lost. Then all workers have ended.
func (e *elector) run(ctx context.Context) error {
	var keeping sync.WaitGroup
	ctx, halt := context.WithCancel(ctx)
	keeping.Go(func() { e.streamer.keep(ctx, e.reign) })
	err := e.rule(ctx)
	halt()
	e.session.disturb()
	for _, w := range e.workers {
		w.stop()
	}
	for len(e.workers) > 0 {
		if over := <-e.ended; e.over(context.WithoutCancel(ctx), over) != nil && err == nil {
			err = over.err
		}
	}
	keeping.Wait()
	return err
}

func (e *elector) rule(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := e.tick(ctx); err != nil {
			return err
		}
		pause := min(tickPause, e.cfg.SessionTimeout/4)
		next := time.Now().Add(e.streamer.soonest(pause))
		for again := false; !again && ctx.Err() == nil && time.Until(next) > 0; {
			for _, payload := range e.session.wait(ctx, time.Until(next), func() bool { return len(e.ended) > 0 || ctx.Err() != nil }) {
				if partition, err := strconv.Atoi(payload); err == nil {
					e.ring.lookAt(partition)
				} else {
					again = true // the one that numbers may be another
				}
			}
			for len(e.ended) > 0 {
				if err := e.over(ctx, <-e.ended); err != nil {
					return err
				}
				again = true
			}
		}
	}
	return nil
}

// tick looks who leads, takes what it may, and leaves what is too much.
func (e *elector) tick(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loop.CallTimeout)
	defer cancel()
	failing := e.streamer.failing()
	if err := e.beMember(ctx, !failing); err != nil {
		return err
	}
	saw, err := e.look(ctx)
	if err != nil {
		return err
	}
	others := len(saw.led) > e.leading()
	share := saw.partitions
	if !failing {
		members := max(saw.members, 1)
		share = (saw.partitions + members - 1) / members
	}
	share = max(0, min(share, saw.ledAtMost()-(len(saw.led)-e.leading())))
	if err := e.number(ctx, saw); err != nil {
		return err
	}
	if err := e.lead(ctx, saw, share); err != nil {
		return err
	}
	e.elsewhere.Store(others || len(e.workers) <= 1)
	if err := e.record(ctx); err != nil {
		return err
	}
	tooMany := saw.tooMany()
	if tooMany != nil && !e.tooMany {
		e.log.Warn("not all partitions are led", "err", tooMany)
	}
	e.tooMany = tooMany != nil
	e.streamer.readiness.Note(ctx, tooMany)
	e.report(ctx, saw)
	return nil
}

// leading returns how many partitions it has the lock of.
func (e *elector) leading() (n int) {
	for p := range e.workers {
		if p != theNumberer {
			n++
		}
	}
	return n
}

// number starts to number if nobody does.
func (e *elector) number(ctx context.Context, saw seen) error {
	if saw.numbers || e.workers[theNumberer] != nil || !e.streamer.part(theNumberer).may() {
		return nil
	}
	ok, err := e.tryNumberer(ctx)
	if err != nil {
		return fmt.Errorf("take the numbering: %w", err)
	}
	if ok {
		e.start(theNumberer, func(ctx context.Context) error { return e.streamer.numberWhile(ctx, e.work, e.reign) })
	}
	return nil
}

// lead takes partitions that nobody leads, up to the streamer's share, and leaves the
// last ones beyond it to others.
func (e *elector) lead(ctx context.Context, saw seen, share int) error {
	mine := e.leading()
	for p := saw.partitions - 1; p >= 0 && mine > share; p-- {
		if w := e.workers[p]; w != nil {
			e.log.Info("leaving the lead to another streamer", "partition", p)
			w.stop()
			mine--
		}
	}
	var want []int32
	for p := 0; p < saw.partitions && len(want) < share-mine; p++ {
		if e.workers[p] == nil && !slices.Contains(saw.led, int64(p)) && e.streamer.part(p).may() {
			want = append(want, int32(p))
		}
	}
	if len(want) == 0 {
		return nil
	}
	got, err := e.tryLead(ctx, want)
	if err != nil {
		return fmt.Errorf("take the lead: %w", err)
	}
	for _, p := range got {
		e.start(p, func(ctx context.Context) error { return e.streamer.leadWhile(ctx, e.work, e.reign, p) })
	}
	return nil
}

// start starts a worker.
func (e *elector) start(part int, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.WithoutCancel(e.work))
	e.workers[part] = &worker{stop}
	go func() {
		err := run(ctx)
		stop()
		e.ended <- ended{part, err}
		e.session.disturb()
	}()
}

// over notes the end of a worker and gives its lock back. It returns the error if a
// person must decide.
func (e *elector) over(ctx context.Context, over ended) error {
	delete(e.workers, over.part)
	return e.streamer.over(ctx, e.reign, over)
}

// report says once that another streamer leads, and looks after frozen ones.
func (e *elector) report(ctx context.Context, saw seen) {
	standby := len(e.workers) == 0
	if standby && !e.standby {
		e.log.Info("standing by: another streamer leads")
	}
	e.standby = standby
	// What nobody does is this one's to answer for, if it has tried.
	for _, p := range saw.led {
		if e.workers[int(p)] == nil {
			e.streamer.part(int(p)).readiness.Note(ctx, unilog.ErrStandby)
		}
	}
	if saw.numbers && e.workers[theNumberer] == nil {
		e.streamer.part(theNumberer).readiness.Note(ctx, unilog.ErrStandby)
	}
	if len(saw.led) > e.leads() || saw.numbers && e.workers[theNumberer] == nil {
		e.oust(ctx)
	}
}

// over notes the end of a part's work, of which the lock is held, and gives that back.
func (s *Streamer) over(ctx context.Context, r *reign, over ended) error {
	p := s.part(over.part)
	over.err = postgres.Reconnect(s.cfg.DB, over.err)
	p.readiness.Note(ctx, over.err)
	var fenced *unilog.FencedError
	switch err := over.err; {
	case err == nil:
	case needsDecision(err):
	case errors.As(err, &fenced):
		s.log.Warn("no longer leading", "partition", fenced.Partition, "epoch", fenced.Epoch, "newer", fenced.Newer)
	case errors.Is(err, errNumbersElsewhere):
		s.log.Debug("no longer numbering", "err", err)
	case errors.Is(err, unilog.ErrSimulated):
		s.log.Debug("simulated failure: starting again")
	default:
		s.log.Warn("streaming failed: trying again", "err", err)
		p.failure()
	}
	if over.err != nil {
		s.cfg.Observer.failed(over.err)
		s.fail(over.err)
		r.noteTrouble(ctx, max(over.part, 0), over.err)
		r.oust(ctx) // somebody who is frozen may stand in the way, and nobody else may look
	}
	// However the caller's time is over: or else the session would keep the lock unused.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loop.FarewellTimeout)
	defer cancel()
	r.giveBack(ctx, over.part)
	if needsDecision(over.err) {
		return over.err
	}
	return nil
}

// giveBack gives a part's lock back. If that cannot be done in time, as when another part's
// call has the session meanwhile and waits itself, the session ends: a lock without work
// would keep everybody out for good.
func (r *reign) giveBack(ctx context.Context, part int) {
	sql, args := sqlEndLead, []any{part}
	if part == theNumberer {
		sql, args = sqlEndNumberer, nil
	}
	if err := r.exec(ctx, sql, args...); err != nil {
		r.log.Debug("ending the session, and its locks with it", "err", err)
		r.session.abandon()
	}
}

// needsDecision says whether trying again is of no use.
func needsDecision(err error) bool {
	var ahead *unilog.LogAheadError
	var diverged *unilog.DivergedError
	var foreign *unilog.ForeignLogError
	var format *unilog.FormatError
	var setting *unilog.LogSettingError
	var sequence *unilog.SequenceSettingError
	return errors.As(err, &ahead) || errors.As(err, &diverged) || errors.As(err, &foreign) || errors.As(err, &format) ||
		errors.As(err, &setting) || errors.As(err, &sequence) || errors.Is(err, unilog.ErrPooled)
}
