package rides

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
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
		ride, err := CreateRide(t.Context(), pool, "", mustParse(t, text))
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
			FROM rides r JOIN unilog.staged_records s ON s.key = r.id::text
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
		if _, err := CreateRide(t.Context(), tx, "", mustParse(t, "1")); err != nil {
			return err
		}
		return rollback
	})
	if !errors.Is(err, rollback) {
		t.Fatal(err)
	}
	wantRides(t, pool, 0)
}

func TestCreateRideWithoutRecordIsNoRide(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	if _, err := pool.Exec(t.Context(), `ALTER TABLE unilog.staged_records ADD CHECK (key <> '1')`); err != nil {
		t.Fatal(err)
	}
	ride, err := CreateRide(t.Context(), pool, "", mustParse(t, "1"))
	var pgErr *pgconn.PgError
	if !errors.As(err, &pgErr) || errors.Is(err, ErrOutcomeUnknown) {
		t.Fatalf("created %+v, %v", ride, err)
	}
	wantRides(t, pool, 0)
}

// TestRidesAreStagedAsRecords compares with what unilog.Stage makes of the rides,
// in their order.
func TestRidesAreStagedAsRecords(t *testing.T) {
	t.Parallel()
	pool := newDatabase(t)
	var distances []Distance
	for i := range 300 {
		for _, text := range []string{"123.0", "0", "1e9", "0." + strings.Repeat("0", 29) + "1", fmt.Sprintf("%d.50", 300-i)} {
			distances = append(distances, mustParse(t, text))
		}
	}
	rides, err := CreateRides(t.Context(), pool, "", distances)
	if err != nil {
		t.Fatal(err)
	}
	records := make([]unilog.Record, len(rides))
	for i, ride := range rides {
		if ride.Distance != distances[i] || ride.ID != int64(i+1) {
			t.Fatalf("ride number %d is %+v, want %s", i, ride, distances[i])
		}
		records[i] = unilog.Record{
			Action: "create", Object: "ride", Key: strconv.FormatInt(ride.ID, 10),
			Data: fmt.Appendf(nil, `{"id":%d,"distance":%s}`, ride.ID, ride.Distance),
		}
	}
	if err := unilog.Stage(t.Context(), pool, records...); err != nil {
		t.Fatal(err)
	}
	var same int
	err = pool.QueryRow(t.Context(), `
		SELECT count(*) FROM unilog.staged_records a JOIN unilog.staged_records b ON b.id = a.id + $1
			AND (a.action, a.object, a.key, a.data::text, coalesce(a.headers::text, '{}'))
			  = (b.action, b.object, b.key, b.data::text, coalesce(b.headers::text, '{}'))
			JOIN rides ON rides.id::text = a.key AND rides.distance::text = a.data ->> 'distance'`, len(rides)).Scan(&same)
	if err != nil || same != len(rides) {
		t.Errorf("%d of %d rides are staged as their records are (%v)", same, len(rides), err)
	}
}

// What says that a statement changed nothing, and what does not.
func TestRolledBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err               error
		rowsMissing, want bool
	}{
		{&pgconn.PgError{SeverityUnlocalized: "ERROR", Code: "23514"}, false, true}, // at the commit
		{&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "57P01"}, true, true},
		{&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "57P01"}, false, false},
		{&pgconn.PgError{SeverityUnlocalized: "FATAL", Code: "08P01"}, true, false}, // a pooler's
		{io.ErrUnexpectedEOF, true, false},
	} {
		if got := rolledBack(c.err, c.rowsMissing); got != c.want {
			t.Errorf("%v, rows missing %t: %t", c.err, c.rowsMissing, got)
		}
	}
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

// TestAnotherSchema books in a database whose log is in a schema of another name.
func TestAnotherSchema(t *testing.T) {
	t.Parallel()
	pool := testenv.Database(t, "rides of another schema", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.In("other").Up(ctx, pool, migration.Log, migration.Consumer, MigrationSet)
	})
	api, log := newAPI(t, pool, func(c *APIConfig) { c.Schema, c.MaxBacklog = "other", 1 })
	for _, w := range []*httptest.ResponseRecorder{postRide(api), postOnce(api, "1", "a key")} {
		if w.Code != http.StatusCreated {
			t.Errorf("it is answered %d %s", w.Code, w.Body)
		}
	}
	var staged int
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM other.staged_records`).Scan(&staged); err != nil || staged != 2 {
		t.Errorf("%d are staged (%v), want 2", staged, err)
	}
	if api.lookAtBacklog(t.Context()); !api.backlog.over.Load() {
		t.Errorf("the backlog is not seen:\n%s", log)
	}
	if err := Register(t.Context(), pool, "other", "c"); err != nil {
		t.Error(err)
	}
	if err := OwnConsumer(t.Context(), pool, "other", "c"); err != nil {
		t.Error(err)
	}
}
