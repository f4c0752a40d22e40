package plainrelay

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// stage stages records with the ids from one on.
func stage(tb testing.TB, db *pgx.Conn, from, n int) {
	tb.Helper()
	records := make([]Record, n)
	for i := range records {
		records[i] = Record{"ride.created", strconv.Itoa(from + i), fmt.Sprintf(`{"id": %d}`, from+i)}
	}
	if err := Stage(tb.Context(), db, records...); err != nil {
		tb.Fatal(err)
	}
}

// plainRelay is a database with the plain relay's table, and a Redis of its own.
type plainRelay struct {
	db    *pgx.Conn
	redis rueidis.Client
}

func newPlainRelay(tb testing.TB) plainRelay {
	tb.Helper()
	pool := testenv.Database(tb, "plainrelay", func(context.Context, *pgxpool.Pool) error { return nil })
	db, err := pgx.Connect(tb.Context(), pool.Config().ConnString())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close(context.Background()) })
	if _, err := db.Exec(tb.Context(), SQLTable); err != nil {
		tb.Fatal(err)
	}
	redis, err := connectRedis(testenv.Redis(tb).URL())
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(redis.Close)
	return plainRelay{db, redis}
}

// published returns the ids of the rides in the stream.
func (p plainRelay) published(tb testing.TB) (ids []int) {
	tb.Helper()
	entries, err := p.redis.Do(tb.Context(), p.redis.B().Xrange().Key(Stream).Start("-").End("+").Build()).AsXRange()
	if err != nil {
		tb.Fatal(err)
	}
	for _, e := range entries {
		var ride struct{ ID int }
		if err := json.Unmarshal([]byte(e.FieldValues["payload"]), &ride); err != nil {
			tb.Fatal(err)
		}
		ids = append(ids, ride.ID)
	}
	return ids
}

func (p plainRelay) done(tb testing.TB) (done bool) {
	tb.Helper()
	if err := p.db.QueryRow(tb.Context(), SQLDone).Scan(&done); err != nil {
		tb.Fatal(err)
	}
	return done
}

// The plain relay publishes what is staged in order, deletes it, and then has
// nothing to do.
func TestRelayBatch(t *testing.T) {
	t.Parallel()
	p := newPlainRelay(t)
	stage(t, p.db, 1, 3)
	for _, want := range []int{3, 0} {
		if n, err := relayBatch(t.Context(), p.db, p.redis, 1000); n != want || err != nil {
			t.Errorf("it relays %d records, %v, want %d", n, err, want)
		}
	}
	if ids := p.published(t); !slices.Equal(ids, []int{1, 2, 3}) || !p.done(t) {
		t.Errorf("it has published %v, and deleted all: %v", ids, p.done(t))
	}
}

// What Redis refuses stays in the table.
func TestRelayBatchRefused(t *testing.T) {
	t.Parallel()
	p := newPlainRelay(t)
	if err := p.redis.Do(t.Context(), p.redis.B().Set().Key(Stream).Value("no stream").Build()).Error(); err != nil {
		t.Fatal(err)
	}
	stage(t, p.db, 1, 1)
	if n, err := relayBatch(t.Context(), p.db, p.redis, 1000); n != 0 || err == nil {
		t.Errorf("it relays %d records, %v, want an error", n, err)
	}
	if p.done(t) {
		t.Error("the record is gone")
	}
}

// BenchmarkPlainRelay stages and relays a batch.
func BenchmarkPlainRelay(b *testing.B) {
	p := newPlainRelay(b)
	from := 1
	for b.Loop() {
		stage(b, p.db, from, defaultBatch)
		from += defaultBatch
		if n, err := relayBatch(b.Context(), p.db, p.redis, defaultBatch); n != defaultBatch || err != nil {
			b.Fatalf("it relays %d records: %v", n, err)
		}
	}
}
