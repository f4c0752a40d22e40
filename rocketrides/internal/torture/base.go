package torture

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// base makes an audit cheap enough to run all the time: rides are never
// changed, so those that no transaction can add to any more are added up once.
type base struct {
	sum  string // of the rides up to id upTo; "" is 0
	upTo int64

	next  int64     // upTo, as soon as what was open at a time has ended
	since time.Time // that time
	ended bool
}

// audit is that of Rocket Rides, with the base in place of the rides in it.
func (b *base) audit() audit.Equation {
	audit := rides.Audit
	audit.Truth = fmt.Sprintf(`SELECT %s + coalesce(sum(distance), 0) FROM rides WHERE id > %d`, cmp.Or(b.sum, "0.0"), b.upTo)
	return audit
}

const (
	// baseRides is how many rides are worth adding up.
	baseRides = 5000
	sqlNewest = `SELECT coalesce(max(id), 0), clock_timestamp() FROM rides`
	// sqlEnded goes by sessions: a transaction may have a ride's id before it
	// has one of its own.
	sqlEnded = `
SELECT count(*) = 0 FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start <= $1`
	sqlBase = `SELECT ($1::text::numeric + sum(distance))::text FROM rides WHERE id > $2 AND id <= $3`
)

// advance takes in more rides when it is time. Each step is one of another
// snapshot: that which adds up is later than what it adds up.
func (b *base) advance(ctx context.Context, tx pgx.Tx) error {
	switch {
	case b.ended:
		err := tx.QueryRow(ctx, sqlBase, cmp.Or(b.sum, "0.0"), b.upTo, b.next).Scan(&b.sum)
		if err != nil {
			return err
		}
		b.upTo, b.ended = b.next, false
		return nil
	case b.next > b.upTo:
		return tx.QueryRow(ctx, sqlEnded, b.since).Scan(&b.ended)
	}
	var newest int64
	var now time.Time
	if err := tx.QueryRow(ctx, sqlNewest).Scan(&newest, &now); err != nil {
		return err
	}
	if newest-b.upTo >= baseRides {
		b.next, b.since = newest, now
	}
	return nil
}
