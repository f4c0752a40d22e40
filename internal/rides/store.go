package rides

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
)

const (
	// Searches no index; rides_pkey takes in the new id.
	insertRideSQL = `
		INSERT INTO rides (distance)
		VALUES ($1::numeric)
		RETURNING id, created_at`

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

	// ErrOutcomeUnknown is returned by [CreateRide] when the connection was lost
	// during the commit, so that the ride may or may not exist.
	ErrOutcomeUnknown = errors.New("rides: the connection was lost during the commit: the ride may or may not exist")
)

// Ride is one booked ride.
type Ride struct {
	ID        int64     `json:"id"`
	Distance  Distance  `json:"distance"`
	CreatedAt time.Time `json:"created_at"`
}

// Beginner is what [CreateRide] needs of a database: a pool, a connection or,
// for a savepoint, a transaction.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// Querier is what [RideByID] needs of a database.
type Querier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// CreateRide writes a ride and stages the record that tells of it, in one
// transaction: after the commit both are visible, after an error neither is.
// The exception is [ErrOutcomeUnknown]; even then, it is both or neither.
func CreateRide(ctx context.Context, db Beginner, distance Distance) (Ride, error) {
	ride := Ride{Distance: distance}
	tx, err := db.Begin(ctx)
	if err != nil {
		return Ride{}, fmt.Errorf("begin: %w", err)
	}
	// Does nothing once the transaction has ended.
	defer func() { _ = tx.Rollback(ctx) }()

	if err := tx.QueryRow(ctx, insertRideSQL, distance.String()).Scan(&ride.ID, &ride.CreatedAt); err != nil {
		return Ride{}, fmt.Errorf("insert ride: %w", err)
	}
	record, err := rideRecord(ride)
	if err != nil {
		return Ride{}, err
	}
	if err := unilog.Stage(ctx, tx, record); err != nil {
		return Ride{}, fmt.Errorf("stage ride: %w", err)
	}
	// Not yet sent, so its outcome is known.
	if err := ctx.Err(); err != nil {
		return Ride{}, fmt.Errorf("commit ride: %w", err)
	}
	if err := tx.Commit(ctx); err != nil {
		if !rolledBack(err) {
			return Ride{}, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
		}
		return Ride{}, fmt.Errorf("commit ride: %w", err)
	}
	ride.CreatedAt = ride.CreatedAt.UTC()
	return ride, nil
}

// rideRecord is what the log's readers see of a new ride.
func rideRecord(ride Ride) (unilog.Record, error) {
	data, err := json.Marshal(struct {
		ID       int64    `json:"id"`
		Distance Distance `json:"distance"`
	}{ride.ID, ride.Distance})
	if err != nil {
		return unilog.Record{}, fmt.Errorf("encode ride: %w", err)
	}
	return unilog.Record{
		Action: recordAction,
		Object: recordObject,
		Key:    strconv.FormatInt(ride.ID, 10),
		Data:   data,
	}, nil
}

// rolledBack reports whether a failed commit is known to have changed nothing.
// A FATAL error is no such answer: the server may send it after the commit. Nor
// is pgconn.SafeToRetry: as of pgx v5.12.0 it also holds where the connection
// ended after the commit was sent.
func rolledBack(err error) bool {
	var pgErr *pgconn.PgError
	if errors.As(err, &pgErr) {
		return pgErr.SeverityUnlocalized == "ERROR"
	}
	return errors.Is(err, pgx.ErrTxCommitRollback)
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
