package rides

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

// Who has a row in consumer_states is a consumer of Rocket Rides, and not of another
// program that reads the same log. Index: consumer_states_pkey.
const (
	// Not for one that has begun: that is another program's.
	sqlRegister = `
INSERT INTO consumer_states (name, total_distance)
SELECT $1, 0 WHERE NOT EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1)
ON CONFLICT DO NOTHING`
	sqlIsOwn  = `SELECT EXISTS (SELECT FROM consumer_states WHERE name = $1), EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1)`
	sqlIsHalf = `
SELECT EXISTS (SELECT FROM consumer_states WHERE name = $1 AND total_distance <> 0)
    AND NOT EXISTS (SELECT FROM unilog.checkpoints WHERE name = $1)`
	sqlForgetState = `DELETE FROM consumer_states WHERE name = $1`
)

// Register notes that a new consumer is one of Rocket Rides, even if it never applies
// a record. For another program's it returns the error of [OwnConsumer]. One that has a
// total and no checkpoint it refuses: everything would be added a second time.
func Register(ctx context.Context, db interface {
	Querier
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, schema unilog.Schema, name string,
) error {
	var half bool
	if err := db.QueryRow(ctx, schema.SQL(sqlIsHalf), name).Scan(&half); err != nil {
		return fmt.Errorf("register consumer %s: %w", name, err)
	}
	if half {
		return fmt.Errorf("%s has a total and no checkpoint: was the table %s emptied? Restore both, or delete its rows of consumer_states to begin anew",
			name, schema.SQL("unilog.checkpoints"))
	}
	if _, err := db.Exec(ctx, schema.SQL(sqlRegister), name); err != nil {
		return fmt.Errorf("register consumer %s: %w", name, err)
	}
	return OwnConsumer(ctx, db, schema, name)
}

// OwnConsumer returns an error, which names the consumer, unless it is one of Rocket
// Rides: what it makes of a record, only its own program knows. It returns
// [consumer.ErrUnknown] for one that nobody knows.
func OwnConsumer(ctx context.Context, db Querier, schema unilog.Schema, name string) error {
	var own, known bool
	err := db.QueryRow(ctx, schema.SQL(sqlIsOwn), name).Scan(&own, &known)
	switch {
	case err != nil:
		return fmt.Errorf("look whose consumer %s is: %w", name, err)
	case !own && !known:
		return consumer.ErrUnknown
	case !own:
		return fmt.Errorf("%s is no consumer of Rocket Rides, as it has no total in consumer_states: its own program must do this; if it is one all the same, insert its row there", name)
	}
	return nil
}

// ForgetConsumer removes a consumer's checkpoint, total and dead letters, or returns
// [consumer.ErrUnknown] or [consumer.ErrRunning].
func ForgetConsumer(ctx context.Context, db interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}, schema unilog.Schema, name string,
) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if err := consumer.In(schema).Forget(ctx, tx, name); err != nil {
			return err
		}
		return ForgetState(ctx, tx, name)
	})
}

// ForgetState removes a consumer's total alone.
func ForgetState(ctx context.Context, tx pgx.Tx, name string) error {
	_, err := tx.Exec(ctx, sqlForgetState, name)
	return err
}
