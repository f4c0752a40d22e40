package rides

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// create books rides with one statement. When ctx ends, the server is told to
// give up and has a little time to say how that went, because a connection that
// is merely dropped leaves it unknown.
func (b *booker) create(ctx context.Context, bookings []*booking) ([]Ride, error) {
	conn, err := b.db.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer release(conn)
	distances := make([]Distance, len(bookings))
	for i, k := range bookings {
		distances[i] = k.distance
	}

	canceler := pgconn.CancelRequestContextWatcherHandler{Conn: conn.Conn().PgConn(), DeadlineDelay: b.farewell()}
	canceling := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		canceler.HandleCancel(ctx)
		close(canceling)
	})
	rides, err := CreateRides(context.WithoutCancel(ctx), conn, distances)
	if !stop() {
		<-canceling
		canceler.HandleUnwatchAfterCancel()
	}
	return rides, err
}

// refused reports whether the server rolled a statement back for a reason that
// need not hold for each of its rides: the others may be booked without it.
func refused(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && !errors.Is(err, ErrOutcomeUnknown) && unavailable(err) == ""
}
