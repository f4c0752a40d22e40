package torture

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

const (
	// auditPause is the time from one audit to the next.
	auditPause = 50 * time.Millisecond
	// auditTimeout bounds one look.
	auditTimeout = 10 * time.Second
)

// watch audits all the time, and knows how far the consumers have come.
type watch struct {
	base base // of the goroutine that audits

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, after each look
	seen
}

// seen is what the looks have shown.
type seen struct {
	audits  int
	spent   time.Duration // in audits that could look
	away    time.Duration // while Postgres could not be asked
	longest time.Duration // between two audits, less the time that Postgres was away

	head    int64     // of the log
	applied time.Time // every consumer has applied, in each partition, a record staged then
	backlog int64     // staged
	lag     int64     // of the consumer that is furthest behind
}

func newWatch() *watch { return &watch{changed: make(chan struct{})} }

// run looks until ctx ends. Its error is a violation.
func (w *watch) run(ctx context.Context, db *pgxpool.Pool) error {
	last, asked := time.Now(), true
	for ctx.Err() == nil {
		began := time.Now()
		s, err := w.look(ctx, db)
		if errors.Is(err, ErrViolated) {
			return err
		}
		now := time.Now()
		w.mu.Lock()
		if err == nil {
			w.audits++
			w.spent += now.Sub(began)
			if asked {
				w.longest = max(w.longest, now.Sub(last))
			}
			w.head, w.applied, w.backlog, w.lag = s.head, s.applied, s.backlog, s.lag
			close(w.changed)
			w.changed = make(chan struct{})
		} else {
			w.away += now.Sub(last)
		}
		last, asked = now, err == nil
		w.mu.Unlock()
		pause(ctx, auditPause-time.Since(began))
	}
	return nil
}

// sqlProgress says how many records there are, and when that was staged at which
// the last consumer stands, of all partitions. Index: checkpoints_pkey,
// batches_pkey.
const sqlProgress = `
SELECT (SELECT sum(next_offset - 1)::bigint FROM unilog.partitions),
    coalesce(CASE WHEN bool_and(staged_at IS NOT NULL) THEN min(staged_at) END, 'epoch')
FROM (
    SELECT (
        SELECT b.staged_at[k."offset" - b.first_offset + 1]
        FROM unilog.batches AS b WHERE b.partition = k.partition AND b.last_offset >= k."offset"
        ORDER BY b.partition, b.last_offset LIMIT 1
    ) AS staged_at
    FROM unilog.partitions AS p CROSS JOIN unnest($1::text[]) AS c (name)
    LEFT JOIN unilog.checkpoints AS k ON k.name = c.name AND k.partition = p.partition
    WHERE p.partition < (SELECT partitions FROM unilog.log)
) AS standing`

// look audits once, in one snapshot.
func (w *watch) look(ctx context.Context, db *pgxpool.Pool) (s seen, err error) {
	ctx, cancel := context.WithTimeout(ctx, auditTimeout)
	defer cancel()
	snapshot := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err = pgx.BeginTxFunc(ctx, db, snapshot, func(tx pgx.Tx) error {
		balances, err := w.base.audit().Check(ctx, tx)
		if err != nil {
			return err
		}
		if violation(balances) != nil { // only if the whole says so too
			if balances, err = rides.Audit.Check(ctx, tx); err != nil {
				return err
			}
		}
		if err := violation(balances); err != nil {
			return err
		}
		for _, b := range balances {
			s.lag, s.backlog = max(s.lag, b.Lag), b.Backlog
		}
		if err := tx.QueryRow(ctx, sqlProgress, consumerNames).Scan(&s.head, &s.applied); err != nil {
			return err
		}
		return w.base.advance(ctx, tx)
	})
	return s, err
}

// violation returns the first one in an audit.
func violation(balances []audit.Balance) error {
	for _, b := range balances {
		if !b.Agrees {
			return fmt.Errorf("%w: %s disagrees with the database by %s m: %+v", ErrViolated, b.Consumer, b.Difference, b)
		}
	}
	return nil
}

// await waits until every consumer has applied a record of each partition that
// was staged after a time.
func (w *watch) await(ctx context.Context, after time.Time, atMost time.Duration) error {
	return w.until(ctx, atMost, "the consumers to apply what is new", func() bool { return w.applied.After(after) })
}

// awaitRest waits until nothing is staged and every consumer has applied
// everything.
func (w *watch) awaitRest(ctx context.Context, atMost time.Duration) error {
	audits := w.now().audits
	return w.until(ctx, atMost, "the consumers to apply everything", func() bool {
		return w.audits > audits+1 && w.backlog == 0 && w.lag == 0
	})
}

func (w *watch) until(ctx context.Context, atMost time.Duration, what string, holds func() bool) error {
	late := time.After(atMost)
	for {
		w.mu.Lock()
		ok, changed := holds(), w.changed
		w.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-late:
			s := w.now()
			return fmt.Errorf("waited %v for %s: %d records are staged, and a consumer is %d behind", atMost, what, s.backlog, s.lag)
		}
	}
}

// forget begins counting anew.
func (w *watch) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.audits, w.spent, w.away, w.longest = 0, 0, 0, 0
}

func (w *watch) now() seen {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
