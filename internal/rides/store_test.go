package rides

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

func mustParse(t *testing.T, s string) Distance {
	t.Helper()
	d, err := ParseDistance(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCreateRideWritesRideAndRecordInOneTransaction(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for _, text := range []string{"123.0", "0", "1000000000", "0." + strings.Repeat("0", 29) + "1", "123456789.123456789012345678901234567890"} {
		ride, err := CreateRide(t.Context(), pool, mustParse(t, text))
		if err != nil {
			t.Fatal(err)
		}
		var together, exact bool
		var distance, action, object, key, data string
		// Rows of one transaction share their xmin. "exact" is true where the
		// record's number is the ride's to the last digit.
		err = pool.QueryRow(t.Context(), `
			SELECT r.xmin::text = s.xmin::text, s.data->>'distance' = r.distance::text,
				r.distance::text, s.action, s.object, s.key, s.data::text
			FROM rides r JOIN staged_log_records s ON s.key = r.id::text
			WHERE r.id = $1`, ride.ID).Scan(&together, &exact, &distance, &action, &object, &key, &data)
		if err != nil {
			t.Fatal(err)
		}
		if !together || !exact || distance != text || action != "create" || object != "ride" {
			t.Errorf("%s: together %t, exact %t, stored as %s, staged as %s %s %s %s", text, together, exact, distance, action, object, key, data)
		}
		got, err := RideByID(t.Context(), pool, ride.ID)
		if err != nil || got.ID != ride.ID || got.Distance != ride.Distance || !got.CreatedAt.Equal(ride.CreatedAt) {
			t.Errorf("RideByID returned %+v, %v; want %+v", got, err, ride)
		}
	}
	wantRides(t, pool, 5)
}

func TestCreateRideRollback(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	rollback := errors.New("rollback")
	err := pgx.BeginFunc(t.Context(), pool, func(tx pgx.Tx) error {
		if _, err := CreateRide(t.Context(), tx, mustParse(t, "1")); err != nil {
			return err
		}
		return rollback
	})
	if !errors.Is(err, rollback) {
		t.Fatal(err)
	}
	wantRides(t, pool, 0)
}

// failingTx refuses to stage, as a full disk might between the two writes.
type failingTx struct{ pgx.Tx }

func (failingTx) Exec(context.Context, string, ...any) (pgconn.CommandTag, error) {
	return pgconn.CommandTag{}, errors.New("no")
}

type failingBeginner struct{ Beginner }

func (b failingBeginner) Begin(ctx context.Context) (pgx.Tx, error) {
	tx, err := b.Beginner.Begin(ctx)
	return failingTx{tx}, err
}

func TestCreateRideWithoutRecordIsNoRide(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if ride, err := CreateRide(t.Context(), failingBeginner{pool}, mustParse(t, "1")); err == nil {
		t.Fatalf("created %+v", ride)
	}
	wantRides(t, pool, 0)
}

func TestRideByIDNotFound(t *testing.T) {
	t.Parallel()
	if ride, err := RideByID(t.Context(), newDatabase(t), 1); !errors.Is(err, ErrRideNotFound) {
		t.Errorf("returned %+v, %v", ride, err)
	}
}

// TestSchemaRefusesDistances holds for whoever writes with psql.
func TestSchemaRefusesDistances(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	for _, distance := range []string{"NaN", "Infinity", "-Infinity", "-0.1", "1000000000.1"} {
		_, err := pool.Exec(t.Context(), `INSERT INTO rides (distance) VALUES ($1::text::numeric)`, distance)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "23514" { // check_violation
			t.Errorf("inserting %s: %v", distance, err)
		}
	}
	var ride Ride
	err := pool.QueryRow(t.Context(), `INSERT INTO rides (distance) VALUES (1::numeric / 3 * 1e-40) RETURNING id`).Scan(&ride.ID)
	if err != nil {
		t.Fatal(err)
	}
	// More places than the api takes, but a ride all the same.
	if ride, err = RideByID(t.Context(), pool, ride.ID); err != nil || !strings.HasPrefix(ride.Distance.String(), "0.0000") {
		t.Errorf("RideByID returned %+v, %v", ride, err)
	}
}
