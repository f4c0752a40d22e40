package streamer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/internal/postgres"
)

// publisher is a streamer's part for one partition: it leads it, or stands by.
type publisher struct {
	cfg       Config
	partition int
	log       *slog.Logger
	readiness loop.Readiness

	// lead is nil while this publisher does not lead.
	lead *leadership
	// limit is how many records the next batch has at the most: fewer after a
	// failure, so that a slow network gets something through.
	limit int
	// numberLimit is the same for the numberer's next batch.
	numberLimit int
	// looked is when a standby last looked at the log.
	looked time.Time
	// runs says that it is in Run: it may number the next batches of a backlog while
	// one is published, and sleep when there is none.
	runs bool
	// partitions is how many the log had when it last took the lead, or tried to.
	partitions int
}

func newPublisher(cfg Config, partition int) *publisher {
	log := cfg.Logger
	if partition > 0 {
		log = log.With("partition", partition)
	}
	return &publisher{cfg: cfg, partition: partition, log: log, limit: cfg.BatchRecords, numberLimit: cfg.BatchRecords, partitions: 1}
}

// run publishes while it may have a seat, and tells about partitions that it
// hears of.
func (p *publisher) run(ctx, work context.Context, seats *seats, hear func(partitions int)) error {
	p.runs = true
	defer func() {
		p.runs = false
		p.farewell(work)
		seats.leave(p.partition)
	}()
	idle := loop.Backoff{First: idleFirst, Most: idleMost}
	retry := loop.Backoff{First: 10 * time.Millisecond, Most: time.Second}
	standby := false
	for ctx.Err() == nil {
		if p.lead != nil && seats.surplus(p.partition) {
			p.log.Info("leaving the lead to another streamer")
			p.farewell(work)
			seats.leave(p.partition)
		}
		if !seats.take(p.partition) {
			p.readiness.Note(ctx, unilog.ErrStandby)
			loop.Sleep(ctx, standbyPause)
			continue
		}
		n, err := p.runOnce(work)
		seats.fail(err)
		hear(p.partitions)
		if p.lead == nil {
			seats.leave(p.partition)
		}
		switch {
		case err == nil && n > 0:
			idle.Reset()
			retry.Reset()
		case err == nil:
			retry.Reset()
			p.rest(ctx, &idle)
		case errors.Is(err, unilog.ErrStandby):
			if !standby {
				p.log.Info("standing by: another streamer leads")
			}
			loop.Sleep(ctx, standbyPause)
		case needsDecision(err):
			return err
		case errors.Is(err, unilog.ErrSimulated):
			p.log.Debug("simulated failure: starting again")
		case ctx.Err() != nil:
		default:
			p.log.Warn("streaming failed: trying again", "err", err)
			retry.Wait(ctx)
		}
		standby = errors.Is(err, unilog.ErrStandby)
	}
	return nil
}

// farewell gives up the lead in good order.
func (p *publisher) farewell(ctx context.Context) {
	if p.lead == nil {
		return
	}
	p.lead.settle()
	if err := p.lead.record(ctx); err != nil {
		p.log.Warn("could not record what is published: it will be sent again, and refused", "err", err)
	}
	p.stepDown()
}

// runOnce takes the lead if nobody has it and publishes one batch.
func (p *publisher) runOnce(ctx context.Context) (int, error) { return p.asLeader(ctx, p.step) }

// asLeader calls work as the leader, after taking the lead if nobody has it.
func (p *publisher) asLeader(ctx context.Context, work func(context.Context) (int, error)) (n int, err error) {
	defer func() {
		p.readiness.Note(ctx, err)
		if err != nil && !errors.Is(err, unilog.ErrStandby) && ctx.Err() == nil {
			p.cfg.Observer.failed(err)
		}
	}()
	if p.lead != nil && time.Since(p.lead.used) > p.lead.silence {
		p.stepDown() // the caller took its time: Postgres has ended the session
	}
	wasIdle := p.lead != nil && !p.runs
	if err := p.ensureLead(ctx); err != nil {
		return 0, err
	}
	n, err = work(ctx)
	if wasIdle && err != nil && ctx.Err() == nil && p.lead.sessionEnded(err) {
		p.log.Info("the leader's session has ended between two calls: taking the lead again", "err", err)
		p.stepDown()
		if err := p.ensureLead(ctx); err != nil {
			return 0, err
		}
		n, err = work(ctx)
	}
	var fenced *unilog.FencedError
	switch {
	case errors.As(err, &fenced):
		p.log.Warn("no longer leading", "epoch", fenced.Epoch, "newer", fenced.Newer)
		p.stepDown()
	case err != nil:
		// What this process holds in memory may differ from what was committed.
		p.giveUp(ctx, err)
		if tookTooLong(err) {
			p.limit = max(1, p.limit/2)
		}
	default:
		p.lead.used = time.Now()
		p.clearTrouble(ctx)
		p.limit = min(p.limit+p.limit/8+1, p.cfg.BatchRecords)
	}
	return n, err
}

// ensureLead takes the lead if this publisher does not have it.
func (p *publisher) ensureLead(ctx context.Context) error {
	if p.lead != nil {
		return nil
	}
	err := p.takeLead(ctx)
	if errors.Is(err, unilog.ErrStandby) {
		err = errors.Join(err, p.keepReady(ctx))
	}
	return err
}

// keepReady looks at the log now and then while another streamer leads. Else a
// connection that a firewall has long dropped would be found only by the first
// call of a new leader, which would wait for it in vain.
func (p *publisher) keepReady(ctx context.Context) error {
	if time.Since(p.looked) < upkeepPause {
		return nil
	}
	p.looked = time.Now()
	ctx, cancel := context.WithTimeout(ctx, standbyTimeout)
	defer cancel()
	if _, err := p.cfg.Log.Head(ctx, p.partition); err != nil {
		p.log.Warn("standing by, and the log cannot be reached", "err", err)
		return &unilog.LogError{Call: "read the log's head", Err: err}
	}
	return nil
}

// needsDecision says whether trying again is of no use.
func needsDecision(err error) bool {
	var ahead *unilog.LogAheadError
	var diverged *unilog.DivergedError
	var foreign *unilog.ForeignLogError
	var setting *unilog.LogSettingError
	return errors.As(err, &ahead) || errors.As(err, &diverged) || errors.As(err, &foreign) || errors.As(err, &setting)
}

// step publishes what is numbered, or else numbers a batch and publishes it.
func (p *publisher) step(ctx context.Context) (int, error) {
	for {
		if time.Since(p.lead.lastUpkeep) >= p.cfg.upkeepPause {
			p.lead.settle()
			if err := p.upkeep(ctx); err != nil {
				return 0, err
			}
		}
		entries, err := p.nextBatch(ctx)
		if err != nil {
			return 0, err
		}
		p.lead.seen = time.Now()
		if p.runs && len(entries) >= p.limit && p.lead.caughtUp(entries) {
			p.numberAhead(ctx)
		}
		if len(entries) == 0 {
			return 0, p.lead.record(ctx)
		}
		err = p.publish(ctx, entries)
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
func (p *publisher) nextBatch(ctx context.Context) ([]unilog.Entry, error) {
	l := p.lead
	if p.runs && l.numberer != nil {
		if err := l.numberer.keepOn(); err != nil {
			return nil, err
		}
	}
	if entries, err := l.takeAhead(); err != nil || len(entries) > 0 {
		if err != nil {
			return nil, err
		}
		return entries, loop.CallHook(ctx, p.cfg.Hooks.AfterNumber, entries)
	}
	ctx, cancel := context.WithTimeout(ctx, loop.CallTimeout)
	defer cancel()
	if l.published == l.numbered && !l.solo {
		if err := p.hearOfNumbered(ctx); err != nil {
			return nil, err
		}
		if l.idle = l.published == l.numbered; l.idle {
			return nil, nil
		}
	}
	if l.published < l.numbered {
		return p.nextArchived(ctx)
	}
	if l.idle {
		staged, err := p.look(ctx)
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
	entries, err := p.numberNext(ctx, p.limit, l.published)
	if err != nil {
		return nil, err
	}
	if l.idle = len(entries) == 0; l.idle {
		return nil, nil
	}
	l.recorded = l.published
	return entries, loop.CallHook(ctx, p.cfg.Hooks.AfterNumber, entries)
}

// nextArchived returns the entries that follow the last published one from the
// archive, which has some.
func (p *publisher) nextArchived(ctx context.Context) ([]unilog.Entry, error) {
	l := p.lead
	if err := l.getUp(ctx); err != nil {
		return nil, err
	}
	if err := l.record(ctx); err != nil {
		return nil, err
	}
	began := time.Now()
	entries, err := archive.Read(ctx, l.conn, l.term.Partition, l.published, l.numbered, p.limit)
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 || entries[0].Offset != l.published+1 {
		return nil, fmt.Errorf("unilog: the archive of partition %d lacks offset %d, which is not published", l.term.Partition, l.published+1)
	}
	if l.solo || entries[0].Offset <= l.noticed {
		return entries, nil
	}
	l.noticed = entries[len(entries)-1].Offset
	p.cfg.Observer.numbered(entries, time.Since(began))
	return entries, loop.CallHook(ctx, p.cfg.Hooks.AfterNumber, entries)
}

// hearOfNumbered finds out what was numbered for this partition, and has it
// numbered, if this is the leader of the first one and not in Run.
func (p *publisher) hearOfNumbered(ctx context.Context) error {
	l := p.lead
	if l.numberer != nil && !p.runs {
		if _, err := l.numberer.once(ctx); err != nil {
			return err
		}
	}
	l.forgetNotifications()
	return l.catchUp(ctx)
}

// tookTooLong says whether less at a time may succeed.
func tookTooLong(err error) bool {
	return errors.Is(err, context.DeadlineExceeded) || postgres.SQLState(err) == "57014" // statement_timeout
}
