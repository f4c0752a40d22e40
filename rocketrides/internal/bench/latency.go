package bench

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/loop"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

const (
	// latencyProducers bounds the rides that are booked at the same time.
	latencyProducers = 16
	// latencyConsumers is how many must have applied a ride.
	latencyConsumers = 2
	// arrivalPause is the time between looks at whether all rides have arrived.
	arrivalPause = 5 * time.Millisecond
)

// sqlAllApplied says whether so many consumers have applied all records of some keys.
const sqlAllApplied = `
SELECT count(*) = cardinality($2::text[]) FROM unilog.records AS r
WHERE r.key = ANY ($2) AND $1 = (
    SELECT count(*) FROM unilog.checkpoints AS c
    WHERE c.name LIKE 'latency%' AND c.partition = r.partition AND c."offset" >= r."offset"
)`

// latencyResult has latencies in microseconds, each up to the return of the last
// consumer's commit.
type latencyResult struct {
	// sinceDue begins when the ride was due.
	sinceDue *hdrhistogram.Histogram
	// sinceCommit begins when its producer saw it committed. A consumer may be
	// faster than that, which counts as 0.
	sinceCommit *hdrhistogram.Histogram
	// late is how many rides came due while every producer was busy.
	late int
}

// measureLatency books rides at a rate per second for d, after a warm-up, and
// measures how long they take to both of its consumers. A streamer must run
// elsewhere. Producers and consumers are in this process, and so on one clock.
//
// It is an open loop: when the rides are due is drawn beforehand, as a Poisson
// process with just as many rides as it has on average, but at least one. A ride
// that waits for a producer, or for a timer that is up to 1 ms late, is seen to
// wait.
//
// It returns when every ride has arrived, or is known to have; if ctx ends before, that is an error.
func measureLatency(ctx context.Context, databaseURL, redisURL, stream string, rate float64, d time.Duration) (latencyResult, error) {
	if rate <= 0 || d <= 0 {
		return latencyResult{}, fmt.Errorf("%g rides a second for %s make no sense: both must be over 0", rate, d)
	}
	m := newLatencyMeter()
	conns, err := connectProducers(ctx, databaseURL)
	defer closeProducers(conns)
	if err != nil {
		return latencyResult{}, err
	}
	// Each connection's first ride is not like the others.
	for _, conn := range conns {
		if err := m.book(ctx, conn, time.Now(), false); err != nil {
			return latencyResult{}, err
		}
	}
	db, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return latencyResult{}, err
	}
	defer db.Close()

	measuring, stop := context.WithCancel(ctx)
	defer stop()
	group, measuring := errgroup.WithContext(measuring)
	for i := range latencyConsumers {
		group.Go(func() error { return m.consume(measuring, fmt.Sprintf("latency%d", i), db, redisURL, stream) })
	}
	group.Go(func() error {
		defer stop()
		// When those first rides have arrived, a streamer leads, and the
		// consumers have read what there was.
		if err := m.await(measuring, db); err != nil {
			return err
		}
		if err := m.bookAll(measuring, conns, rate, d); err != nil {
			return err
		}
		return m.await(measuring, db)
	})
	if err := group.Wait(); err != nil {
		return latencyResult{}, err
	}
	return m.result, nil
}

func connectProducers(ctx context.Context, databaseURL string) (conns []*pgx.Conn, err error) {
	for range latencyProducers {
		conn, err := pgx.Connect(ctx, databaseURL)
		if err != nil {
			return conns, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

func closeProducers(conns []*pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	for _, conn := range conns {
		_ = conn.Close(ctx)
	}
}

// latencyMeter follows rides from their producers to their consumers.
type latencyMeter struct {
	mu     sync.Mutex
	result latencyResult
	// journeys are those of the rides that have not arrived, and of older ones
	// that the consumers met.
	journeys map[int64]*journey
	booked   int
	arrived  int
	// patience is for how long nothing must arrive until the checkpoints are asked.
	patience time.Duration
}

func newLatencyMeter() *latencyMeter {
	return &latencyMeter{
		result:   latencyResult{sinceDue: newHistogram(), sinceCommit: newHistogram()},
		journeys: map[int64]*journey{},
		patience: loop.CallTimeout,
	}
}

// journey is one ride's. Its consumers may be faster than its producer.
type journey struct {
	due, committed time.Time
	counts         bool // it is not of the warm-up
	appliedBy      int  // consumers
	applied        time.Time
}

// bookAll books the rides of the warm-up and those that count.
func (m *latencyMeter) bookAll(ctx context.Context, conns []*pgx.Conn, rate float64, d time.Duration) error {
	warm := warmUp(d)
	random := rand.New(rand.NewPCG(1, 0)) // the same rides in every run
	due := drawTimes(random, int(rate*warm.Seconds()), 0, warm)
	uncounted := len(due)
	due = append(due, drawTimes(random, max(1, int(math.Round(rate*d.Seconds()))), warm, d)...)
	var late atomic.Int64
	err := atTimes(ctx, len(conns), due, func(ctx context.Context, worker, i int, due time.Time, isLate bool) error {
		if isLate && i >= uncounted {
			late.Add(1)
		}
		return m.book(ctx, conns[worker], due, i >= uncounted)
	})
	m.result.late = int(late.Load())
	return err
}

// atTimes calls do when each time after now is due, with its number. Every worker
// that has nothing to do waits for the next that nobody else waits for, and is told
// whether all were busy when it came due.
func atTimes(ctx context.Context, workers int, due []time.Duration, do func(ctx context.Context, worker, i int, due time.Time, late bool) error) error {
	start := time.Now()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for worker := range workers {
		group.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(due) {
					return nil
				}
				wait := time.Until(start.Add(due[i]))
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(wait):
				}
				if err := do(ctx, worker, i, start.Add(due[i]), wait < 0); err != nil {
					return err
				}
			}
		})
	}
	return group.Wait()
}

// drawTimes draws when a Poisson process has its events, in d after from, given
// that there are n of them: independent of each other, and anywhere.
func drawTimes(random *rand.Rand, n int, from, d time.Duration) []time.Duration {
	times := make([]time.Duration, n)
	for i := range times {
		times[i] = from + time.Duration(random.Int64N(int64(d)))
	}
	slices.Sort(times)
	return times
}

// book books a ride.
func (m *latencyMeter) book(ctx context.Context, db rides.Writer, due time.Time, counts bool) error {
	distance, err := rides.ParseDistance("123.45")
	if err != nil {
		return err
	}
	ride, err := rides.CreateRide(ctx, db, "", distance)
	if err != nil {
		return err
	}
	m.committed(ride.ID, journey{due: due, committed: time.Now(), counts: counts})
	return nil
}

// consume runs a consumer, as its own process would, until ctx ends.
func (m *latencyMeter) consume(ctx context.Context, name string, db *pgxpool.Pool, redisURL, stream string) error {
	log, err := redislog.Open(ctx, redisURL, stream)
	if err != nil {
		return err
	}
	defer log.Close()
	consumer, err := consumer.New(consumer.Config{
		Name: name, DB: db, Archive: db, Log: log,
		Handler: (&rides.Consumer{Name: name}).Handle,
		Hooks:   consumer.Hooks{AfterCommit: m.applied},
	})
	if err != nil {
		return err
	}
	return consumer.Run(ctx)
}

// committed is what a producer tells of a ride.
func (m *latencyMeter) committed(id int64, told journey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.booked++
	j := m.journey(id)
	j.due, j.committed, j.counts = told.due, told.committed, told.counts
	m.settle(id)
}

// applied is the consumers' hook.
func (m *latencyMeter) applied(_ context.Context, entries []unilog.Entry) {
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, e := range entries {
		id, err := strconv.ParseInt(e.Key, 10, 64)
		if err != nil {
			continue // no ride
		}
		j := m.journey(id)
		j.appliedBy++
		j.applied = now
		m.settle(id)
	}
}

func (m *latencyMeter) journey(id int64) *journey {
	j := m.journeys[id]
	if j == nil {
		j = new(journey)
		m.journeys[id] = j
	}
	return j
}

// missing returns the keys of the rides that were booked and have not arrived.
func (m *latencyMeter) missing() (keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, j := range m.journeys {
		if !j.committed.IsZero() {
			keys = append(keys, strconv.FormatInt(id, 10))
		}
	}
	return keys
}

// settleAll records rides as arrived, unless they are by now.
func (m *latencyMeter) settleAll(keys []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, j := range m.journeys {
		if slices.Contains(keys, strconv.FormatInt(id, 10)) {
			j.appliedBy, j.applied = latencyConsumers, time.Now()
			m.settle(id)
		}
	}
}

// settle records a ride that has arrived.
func (m *latencyMeter) settle(id int64) {
	j := m.journeys[id]
	if j.committed.IsZero() || j.appliedBy < latencyConsumers {
		return
	}
	m.arrived++
	delete(m.journeys, id)
	if j.counts {
		record(m.result.sinceDue, j.applied.Sub(j.due))
		record(m.result.sinceCommit, j.applied.Sub(j.committed))
	}
}

// await returns when all rides that were booked have arrived. Of a commit that took so long
// that its consumer gave it up, nobody tells that it succeeded: then the checkpoints do, and
// those rides count as if they had arrived now.
func (m *latencyMeter) await(ctx context.Context, db *pgxpool.Pool) error {
	look := time.NewTicker(arrivalPause)
	defer look.Stop()
	before, since := 0, time.Now() // as many have arrived
	for {
		m.mu.Lock()
		booked, arrived := m.booked, m.arrived
		m.mu.Unlock()
		if arrived == booked {
			return nil
		}
		if arrived != before {
			before, since = arrived, time.Now()
		}
		if time.Since(since) > m.patience {
			since = time.Now()
			missing, done := m.missing(), false
			if err := db.QueryRow(ctx, sqlAllApplied, latencyConsumers, missing).Scan(&done); err == nil && done {
				m.settleAll(missing)
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%d of %d rides have not arrived at their consumers, see whether a streamer runs: %w",
				booked-arrived, booked, ctx.Err())
		case <-look.C:
		}
	}
}
