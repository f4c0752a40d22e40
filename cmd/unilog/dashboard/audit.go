package dashboard

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
)

const (
	// auditPause is the time between two audits at the least, while somebody looks
	// and while nobody does.
	auditPause, idleAuditPause = time.Second, 10 * time.Second
	// auditTimeout bounds one, which reads all that was ever written.
	auditTimeout = 30 * time.Second
)

// Audit is what the page compares.
type Audit struct {
	Equation audit.Equation
	// Consumers are those that keep such totals; all of the database's, if empty.
	Consumers []string
	// Own is a query for the names of those that keep such totals, instead: one column.
	// It is asked after the totals are.
	Own string
	// Count is a query for how many things the truth is the sum of: one row, one
	// column. Without it, that is not shown.
	Count string
}

// Check evaluates the equation for its consumers, with the log in a schema.
func (a *Audit) Check(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema) ([]audit.Balance, error) {
	equation := a.Equation
	equation.Schema = schema
	balances, err := equation.Check(ctx, db)
	of := a.Consumers
	if err == nil && a.Own != "" {
		rows, _ := db.Query(ctx, a.Own) // CollectRows has the error
		of, err = pgx.CollectRows(rows, pgx.RowTo[string])
	}
	if err != nil {
		return nil, err
	}
	if len(of) > 0 || a.Own != "" {
		balances = slices.DeleteFunc(balances, func(b audit.Balance) bool { return !slices.Contains(of, b.Consumer) })
	}
	return balances, nil
}

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
	count    *int64
	truth    string
	err      error
}

// audit begins one when it is time for it, and gives up one that runs when
// Postgres has fallen silent. The truth is a sum over all there is, so the more there
// are, the longer the pause: an audit runs for a fifth of the time at the most, and
// for a fiftieth if nobody looks.
func (w *watcher) audit(ctx context.Context, period time.Duration) {
	a := &w.audits
	if w.cfg.Audit == nil {
		return
	}
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
	of := d.cfg.Audit
	if a.balances, a.err = of.Check(ctx, d.cfg.DB, d.cfg.Schema); a.err != nil {
		return a
	}
	if of.Count != "" {
		if a.err = d.cfg.DB.QueryRow(ctx, of.Count).Scan(&a.count); a.err != nil {
			return a
		}
	}
	if len(a.balances) == 0 { // else the truth is among the rest
		a.err = d.cfg.DB.QueryRow(ctx, `SELECT coalesce((`+of.Equation.Truth+`), 0)::text`).Scan(&a.truth)
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
		Time: r.at.UnixMilli(), Truth: r.truth, Count: r.count, Balances: []balance{},
		Agrees: true, Since: before.Since, Checks: before.Checks + 1,
	}
	for _, b := range r.balances {
		a.last.Truth = b.Truth // of one snapshot with the rest
		if b.Began > 0 {
			continue // it is not audited
		}
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
