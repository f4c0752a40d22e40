package dashboard

import (
	"context"
	"time"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

const (
	// auditPause is the time between two audits at the least, while somebody looks
	// and while nobody does.
	auditPause, idleAuditPause = time.Second, 10 * time.Second
	// auditTimeout bounds one, which reads all rides.
	auditTimeout = 30 * time.Second
)

// sqlRides reads all rides, as the audit does.
const sqlRides = `SELECT count(*), coalesce(sum(distance), 0)::text FROM rides`

// audits are taken one at a time, beside the samples.
type audits struct {
	last   auditFigure
	began  time.Time
	took   time.Duration
	cancel context.CancelFunc // of the one that runs, or nil
	done   chan audited
}

// audited is what an audit has found.
type audited struct {
	at       time.Time
	balances []audit.Balance
	rides    int64
	truth    string
	err      error
}

// audit begins one when it is time for it, and gives up one that runs when
// Postgres has fallen silent. The truth is a sum over all rides, so the more there
// are, the longer the pause: an audit runs for a fifth of the time at the most, and
// for a fiftieth if nobody looks.
func (w *watcher) audit(ctx context.Context, period time.Duration) {
	a := &w.audits
	if w.down["Postgres"] {
		if a.cancel != nil {
			a.cancel()
		}
		return
	}
	pause := max(auditPause, 5*a.took)
	if period == idlePause {
		pause = max(idleAuditPause, 50*a.took)
	}
	// Half a sample's pause early is in time: the clock ticks no finer.
	if a.cancel != nil || time.Since(a.began) < pause-samplePause/2 {
		return
	}
	ctx, a.cancel = context.WithTimeout(ctx, w.auditFor)
	a.began = time.Now()
	go func() { a.done <- w.check(ctx) }()
}

func (d *Dashboard) check(ctx context.Context) (a audited) {
	a.at = time.Now()
	if a.balances, a.err = rides.Audit.Check(ctx, d.cfg.DB); a.err == nil {
		a.err = d.cfg.DB.QueryRow(ctx, sqlRides).Scan(&a.rides, &a.truth)
	}
	return a
}

// over takes the result of an audit.
func (a *audits) over(r audited) {
	a.cancel()
	a.cancel, a.took = nil, time.Since(a.began)
	if r.err != nil {
		a.last.Error = short(r.err.Error())
		return
	}
	before := a.last
	a.last = auditFigure{
		Time: r.at.UnixMilli(), Truth: r.truth, Rides: r.rides, Balances: []balance{},
		Agrees: true, Since: before.Since, Checks: before.Checks + 1,
	}
	for _, b := range r.balances {
		a.last.Truth = b.Truth // of one snapshot with the rest
		a.last.Agrees = a.last.Agrees && b.Agrees
		a.last.Balances = append(a.last.Balances, balance{b.Consumer, b.Total, b.Ahead, b.Staged, b.Parked, b.Difference, b.Agrees})
	}
	if before.Checks == 0 || before.Agrees != a.last.Agrees {
		a.last.Since = a.last.Time
	}
}

// end ends the audit that runs.
func (a *audits) end() {
	if a.cancel != nil {
		a.cancel()
		<-a.done
	}
}
