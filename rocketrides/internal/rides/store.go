package rides

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
)

const (
	// insertRidesSQL makes rides of the distances given, and stages a record of
	// each. Rows are numbered after they are sorted, so that ids follow the order
	// of the distances, and staging ids that of the rides. The record is as
	// unilog.Stage would write it.
	// Searches no index; the primary keys take in the new ids.
	insertRidesSQL = `
		WITH ride AS (
			INSERT INTO rides (distance)
			SELECT distance::numeric
			FROM unnest($1::text[]) WITH ORDINALITY AS r (distance, n)
			ORDER BY n
			RETURNING id, created_at, distance
		), record AS (
			INSERT INTO unilog.staged_records (action, object, key, data)
			SELECT '` + recordAction + `', '` + recordObject + `', id::text, jsonb_build_object('id', id, 'distance', distance)
			FROM ride
			ORDER BY ride.id -- a bare id would be the text above
		)
		SELECT id, created_at
		FROM ride
		ORDER BY id`

	// Served by rides_pkey.
	selectRideSQL = `
		SELECT created_at, distance::text
		FROM rides
		WHERE id = $1`
)

// What a new ride is called in the log.
const (
	recordAction = "create"
	recordObject = "ride"
)

var (
	// ErrRideNotFound is returned where no ride has the id asked for.
	ErrRideNotFound = errors.New("rides: no such ride")

	// ErrOutcomeUnknown is returned when the connection was lost before the answer, or
	// when no synchronous standby has confirmed the commit, so that the rides may or may
	// not exist, or last.
	ErrOutcomeUnknown = errors.New("rides: the outcome is unknown: the ride may or may not exist")
)

// Ride is one booked ride.
type Ride struct {
	ID        int64     `json:"id"`
	Distance  Distance  `json:"distance"`
	CreatedAt time.Time `json:"created_at"`
}

// Writer is what [CreateRides] needs of a database: a connection, a pool or a
// transaction.
type Writer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Querier is what [RideByID] needs of a database.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// CreateRide is [CreateRides] for one.
func CreateRide(ctx context.Context, db Writer, schema unilog.Schema, distance Distance) (Ride, error) {
	rides, err := CreateRides(ctx, db, schema, []Distance{distance})
	if err != nil {
		return Ride{}, err
	}
	return rides[0], nil
}

// CreateRides writes rides and stages the records that tell of them in the log of a
// schema, in one
// statement and in their order: all of it is there afterwards, or, after an
// error, nothing. The exception is [ErrOutcomeUnknown]; even then, it is all or
// nothing. On a transaction, it is there once that commits.
func CreateRides(ctx context.Context, db Writer, schema unilog.Schema, distances []Distance) ([]Ride, error) {
	texts := make([]string, len(distances))
	for i, d := range distances {
		texts[i] = d.String()
	}
	// Not yet sent, so its outcome is known.
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("create rides: %w", err)
	}
	rides := make([]Ride, 0, len(distances))
	rows, err := db.Query(ctx, schema.SQL(insertRidesSQL), texts)
	if err == nil {
		var ride Ride
		_, err = pgx.ForEachRow(rows, []any{&ride.ID, &ride.CreatedAt}, func() error {
			if len(rides) < len(distances) {
				ride.Distance, ride.CreatedAt = distances[len(rides)], ride.CreatedAt.UTC()
			}
			rides = append(rides, ride)
			return nil
		})
	}
	switch {
	case err == nil && len(rides) == len(distances):
		return rides, nil
	case err == nil: // a trigger of somebody's
		err = fmt.Errorf("the database made %d rides of %d", len(rides), len(distances))
	case rolledBack(err, len(rides) < len(distances)):
		return nil, fmt.Errorf("create rides: %w", err)
	}
	return nil, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
}

// rolledBack reports whether a failed statement is known to have changed
// nothing. The server answers in order, and sends every row before it commits:
// when it ends the session before the last row, it has not committed. Any other
// FATAL error is no such answer. Nor is pgconn.SafeToRetry: as of pgx v5.12.0 it
// also holds where the connection ended after the statement was sent.
func rolledBack(err error, rowsMissing bool) bool {
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) {
		return false
	}
	return pgErr.SeverityUnlocalized == "ERROR" || pgErr.Code == "57P01" && rowsMissing // admin_shutdown
}

// RideByID returns the ride with this id, or [ErrRideNotFound].
func RideByID(ctx context.Context, db Querier, id int64) (Ride, error) {
	ride := Ride{ID: id}
	// Postgres writes a numeric as text in plain notation with every digit.
	err := db.QueryRow(ctx, selectRideSQL, id).Scan(&ride.CreatedAt, &ride.Distance.plain)
	if errors.Is(err, pgx.ErrNoRows) {
		return Ride{}, ErrRideNotFound
	}
	if err != nil {
		return Ride{}, fmt.Errorf("select ride: %w", err)
	}
	ride.CreatedAt = ride.CreatedAt.UTC()
	return ride, nil
}
