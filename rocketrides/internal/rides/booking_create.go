package rides

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// create books rides with one statement. When ctx ends, the server is told to
// give up and has a little time to say how that went, because a connection that
// is merely dropped leaves it unknown.
func (b *booker) create(ctx context.Context, bookings []*booking) ([]verdict, error) {
	conn, err := b.db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer release(conn)
	orders := make([]order, len(bookings))
	for i, k := range bookings {
		orders[i] = k.order
	}

	canceler := pgconn.CancelRequestContextWatcherHandler{Conn: conn.Conn().PgConn(), DeadlineDelay: b.farewell}
	canceling := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		canceler.HandleCancel(ctx)
		close(canceling)
	})
	_ = postgres.CheckConfirmed(conn.Conn()) // of those who have not asked
	verdicts, err := createAll(context.WithoutCancel(ctx), conn.Conn(), b.schema, orders)
	if !stop() {
		<-canceling
		canceler.HandleUnwatchAfterCancel()
	}
	if err == nil {
		b.metrics.rides(verdicts)
		err = unconfirmed(conn.Conn())
	}
	return verdicts, err
}

// unconfirmed returns an [ErrOutcomeUnknown] if a commit has not waited until a synchronous
// standby had it, as when the server was told to give up. It can be seen, and is lost if
// that standby is promoted.
func unconfirmed(conn *pgx.Conn) error {
	if err := postgres.CheckConfirmed(conn); err != nil {
		return fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	return nil
}

// createAll spares orders without claims and headers what the others need.
func createAll(ctx context.Context, db *pgx.Conn, schema unilog.Schema, orders []order) ([]verdict, error) {
	if slices.ContainsFunc(orders, func(o order) bool { return o.claim != nil || o.headers != nil }) {
		return createOnce(ctx, db, schema, orders)
	}
	distances := make([]Distance, len(orders))
	for i, o := range orders {
		distances[i] = o.distance
	}
	rides, err := CreateRides(ctx, db, schema, distances)
	if err != nil {
		return nil, err
	}
	verdicts := make([]verdict, len(rides))
	for i, ride := range rides {
		verdicts[i] = verdict{ride: ride, booked: true}
	}
	return verdicts, nil
}

// refused reports whether the server rolled a statement back for a reason that
// need not hold for each of its rides: the others may be booked without it.
func refused(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && !errors.Is(err, ErrOutcomeUnknown) && unavailable(err) == ""
}
