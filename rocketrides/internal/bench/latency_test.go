package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
	"github.com/rocketrides/unilog/streamer"
)

const (
	latencyRate = 100
	latencyTime = time.Second
	// What is booked before and in the warm-up of 0.2 s, and what counts.
	uncountedRides, countedRides = latencyProducers + 20, 100
)

func TestMeasureLatency(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	streamer, stream := newStreamer(t, db)
	// Rides of before are not waited for, and not counted.
	distance, err := rides.ParseDistance("7")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := rides.CreateRide(t.Context(), db, "", distance); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var streaming sync.WaitGroup
	defer streaming.Wait()
	defer stop()
	streaming.Go(func() {
		if err := streamer.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	result, err := measureLatency(await.Context(t, "the latency"), db.Config().ConnString(), testenv.PatientRedis(testenv.SharedRedis(t)), stream, latencyRate, latencyTime)
	if err != nil {
		t.Fatal(err)
	}
	due, committed := result.sinceDue, result.sinceCommit
	if due.TotalCount() != countedRides || committed.TotalCount() != countedRides {
		t.Errorf("%d and %d latencies, want %d", due.TotalCount(), committed.TotalCount(), countedRides)
	}
	// Three digits are exact to a thousandth.
	if due.Min() < 1 || due.Mean() < committed.Mean()*0.999 {
		t.Errorf("from %d µs, %g µs on average since they were due and %g since their commits", due.Min(), due.Mean(), committed.Mean())
	}
	if n := countRides(t, db); n != 1+uncountedRides+countedRides {
		t.Errorf("%d rides, want %d", n, 1+uncountedRides+countedRides)
	}
	balances, err := rides.Audit.Check(t.Context(), db)
	if err != nil || len(balances) != latencyConsumers {
		t.Fatalf("%d consumers, %v", len(balances), err)
	}
	for _, b := range balances {
		if !b.Agrees || b.Lag != 0 {
			t.Errorf("%+v", b)
		}
	}
}

// A ride that does not arrive is not left out.
func TestMeasureLatencyMissesARide(t *testing.T) {
	t.Parallel()
	const all = uncountedRides + countedRides
	db := newDatabase(t)
	streamer, stream := newStreamer(t, db)
	if _, err := db.Exec(t.Context(), `
		CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
		CREATE TRIGGER lose BEFORE INSERT ON unilog.staged_records FOR EACH ROW WHEN (NEW.id = 50) EXECUTE FUNCTION lose()`); err != nil {
		t.Fatal(err)
	}
	ctx, giveUp := context.WithCancel(await.Context(t, "all rides but one"))
	var others sync.WaitGroup
	defer others.Wait()
	defer giveUp()
	others.Go(func() {
		if err := streamer.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	others.Go(func() {
		for arrived := false; !arrived && ctx.Err() == nil; betweenLooks(ctx) {
			err := db.QueryRow(ctx, `
				SELECT count(*) = $1 AND (SELECT min("offset") = $1 - 1 FROM unilog.checkpoints) FROM rides`, all).Scan(&arrived)
			if err != nil && ctx.Err() == nil {
				t.Error(err)
			}
		}
		giveUp()
	})
	_, err := measureLatency(ctx, db.Config().ConnString(), testenv.PatientRedis(testenv.SharedRedis(t)), stream, latencyRate, latencyTime)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("without one of %d rides it ends with %v", all, err)
	}
}

// A ride arrives, too, whose consumers do not know that their commits succeeded.
func TestLatencyOfUntoldCommits(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	streamer, _ := newStreamer(t, db)
	m := newLatencyMeter()
	m.patience = 0
	if err := m.book(t.Context(), db, time.Now(), true); err != nil {
		t.Fatal(err)
	}
	await.True(t, "the ride to be published", func() bool {
		n, _ := streamer.RunOnce(t.Context()) // it may be too slow
		return n > 0
	})
	for i := range latencyConsumers {
		short, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := m.await(short, db); err == nil {
			t.Errorf("it has arrived at %d consumers, and that is enough", i)
		}
		stop()
		if _, err := db.Exec(t.Context(), `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ($1, 0, 1)`, fmt.Sprint("latency", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.await(t.Context(), db); err != nil || m.result.sinceCommit.TotalCount() != 1 {
		t.Errorf("%d rides have arrived, %v", m.result.sinceCommit.TotalCount(), err)
	}
}

// What a consumer cannot do ends the measurement.
func TestMeasureLatencyFails(t *testing.T) {
	t.Parallel()
	db := newDatabase(t)
	database, redis, stream := db.Config().ConnString(), testenv.SharedRedis(t), testenv.StreamName(t)
	for name, c := range map[string]struct {
		database, redis string
		rate            float64
		want            string
	}{
		"no Redis":    {database, "unix:///nowhere.sock", latencyRate, "connect to Redis"},
		"no Postgres": {"postgres:///x?host=/nowhere", redis, latencyRate, "failed to connect"},
		"no rides":    {database, redis, 0, "must be over 0"},
	} {
		_, err := measureLatency(t.Context(), c.database, c.redis, stream, c.rate, latencyTime)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whoever is last, a ride has arrived when all have told of it.
func TestLatencyIsThatOfTheLastConsumer(t *testing.T) {
	t.Parallel()
	const id, producer, consumer = 7, "producer", "consumer"
	for _, order := range [][]string{
		{producer, consumer, consumer}, {consumer, producer, consumer}, {consumer, consumer, producer},
	} {
		m := newLatencyMeter()
		for i, who := range order {
			if m.arrived != 0 {
				t.Errorf("%v: it has arrived after %d of them", order, i)
			}
			if who == producer {
				now := time.Now()
				m.committed(id, journey{due: now.Add(-time.Minute), committed: now.Add(-time.Second), counts: true})
			} else {
				m.applied(t.Context(), []unilog.Entry{{Record: unilog.Record{Key: fmt.Sprint(id)}}})
			}
		}
		due, committed := m.result.sinceDue, m.result.sinceCommit
		if m.arrived != 1 || due.TotalCount() != 1 || committed.TotalCount() != 1 || len(m.journeys) != 0 {
			t.Errorf("%v: %d have arrived, %d and %d latencies", order, m.arrived, due.TotalCount(), committed.TotalCount())
		}
		// To three digits.
		if due.Max() < 59_900_000 || committed.Max() < 999_000 || committed.Max() >= due.Min() {
			t.Errorf("%v: %d µs since it was due, %d since its commit", order, due.Max(), committed.Max())
		}
	}
}

func TestDrawTimes(t *testing.T) {
	t.Parallel()
	const from, d = 3 * time.Second, 2 * time.Second
	times := drawTimes(rand.New(rand.NewPCG(1, 0)), 1000, from, d)
	inHalf := 0
	for _, at := range times {
		if at < from || at >= from+d {
			t.Errorf("one is at %s", at)
		}
		if at < from+d/2 {
			inHalf++
		}
	}
	// Half of them, give or take four standard deviations.
	if len(times) != 1000 || !slices.IsSorted(times) || inHalf < 437 || inHalf > 563 {
		t.Errorf("%d times, %d of them in the first half, in order: %v", len(times), inHalf, slices.IsSorted(times))
	}
}

// newStreamer makes one, of batches up to a size, for a stream of its own.
func newStreamer(t *testing.T, db *pgxpool.Pool) (*streamer.Streamer, string) {
	t.Helper()
	stream := testenv.StreamName(t)
	log, err := redislog.Open(t.Context(), testenv.PatientRedis(testenv.SharedRedis(t)), stream)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Close)
	s, err := streamer.New(streamer.Config{
		DB: db, Log: log, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return s, stream
}

func betweenLooks(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Millisecond):
	}
}
