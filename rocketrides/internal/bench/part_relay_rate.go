package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
	"golang.org/x/sync/errgroup"
)

// measureRate stages records at a rate, and measures what that costs and how long
// each takes from its commit until it is in Redis.
func (w *world) measureRate(ctx context.Context, c *contestant, rate int) error {
	conns, err := connectProducers(ctx, w.databaseURL)
	defer closeProducers(conns)
	if err != nil {
		return err
	}
	p, err := w.start(c.process...)
	if err != nil {
		return err
	}
	// The first ones wait until the process leads.
	for _, d := range []time.Duration{time.Second, warmUp(w.d)} {
		if _, err := w.relayAtRate(ctx, c, conns, rate, d); err != nil {
			return err
		}
	}
	before, began, err := w.usedExactly(ctx, p)
	if err != nil {
		return err
	}
	latency, err := w.relayAtRate(ctx, c, conns, rate, w.d)
	if err != nil {
		return err
	}
	after, ended, err := w.usedExactly(ctx, p)
	if err != nil {
		return err
	}
	percent := func(name string, d time.Duration) {
		c.note(fmt.Sprint(rate), name, 100*d.Seconds()/ended.Sub(began).Seconds())
	}
	percent("itself", after.process-before.process)
	percent("Postgres", after.postgres-before.postgres)
	percent("Redis", after.engine-before.engine)
	c.note(fmt.Sprint(rate), "p50", milliseconds(latency.ValueAtPercentile(50)))
	c.note(fmt.Sprint(rate), "p99", milliseconds(latency.ValueAtPercentile(99)))
	return w.stop()
}

// usedExactly is used, with the process's time in less than a tick of /proc.
func (w *world) usedExactly(ctx context.Context, p *program) (usage, time.Time, error) {
	u, err := w.used(ctx, p)
	if exact, ok := p.cpu(); ok {
		u.process = exact
	}
	return u, time.Now(), err
}

// relayAtRate stages records, each by a transaction of its own and at a random time,
// for d, and returns when the last has arrived, with the latencies from the commits.
func (w *world) relayAtRate(ctx context.Context, c *contestant, conns []*pgx.Conn, rate int, d time.Duration) (*hdrhistogram.Histogram, error) {
	first := c.staged + 1
	due := drawTimes(rand.New(rand.NewPCG(uint64(first), 0)), max(1, int(float64(rate)*d.Seconds())), 0, d)
	committed, arrived := make([]time.Time, len(due)), make([]time.Time, len(due))
	last, err := lastEntry(ctx, w.redis, c.stream)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, d+patience)
	defer cancel()
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return readArrivals(running, w.redis, c, last, first, arrived) })
	group.Go(func() error {
		return atTimes(running, len(conns), due, func(ctx context.Context, worker, i int, _ time.Time, _ bool) error {
			if err := c.stage(ctx, conns[worker], first+i, 1); err != nil {
				return err
			}
			committed[i] = time.Now()
			return nil
		})
	})
	if err := group.Wait(); err != nil {
		return nil, w.blame(err)
	}
	c.staged += len(due)
	h := newHistogram()
	for i := range due {
		record(h, arrived[i].Sub(committed[i]))
	}
	return h, nil
}

// lastEntry returns the id of a stream's last entry.
func lastEntry(ctx context.Context, redis rueidis.Client, stream string) (string, error) {
	last, err := redis.Do(ctx, redis.B().Xrevrange().Key(stream).End("+").Start("-").Count(1).Build()).AsXRange()
	if err != nil || len(last) == 0 {
		return "0", err
	}
	return last[0].ID, nil
}

// readArrivals notes when each record, from the one of id first on, is in the
// stream after an entry, until all are.
func readArrivals(ctx context.Context, redis rueidis.Client, c *contestant, after string, first int, arrived []time.Time) error {
	const atOnce, block = 1000, 1000
	for missing := len(arrived); missing > 0; {
		streams, err := redis.Do(ctx, redis.B().Xread().Count(atOnce).Block(block).Streams().Key(c.stream).Id(after).Build()).AsXRead()
		if rueidis.IsRedisNil(err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("read the stream: %w", err)
		}
		now := time.Now()
		for _, e := range streams[c.stream] {
			after = e.ID
			var ride struct{ ID int }
			if err := json.Unmarshal([]byte(e.FieldValues[c.field]), &ride); err != nil {
				return fmt.Errorf("entry %s of %s has no ride in its field %s: %w", e.ID, c.stream, c.field, err)
			}
			if i := ride.ID - first; i >= 0 && i < len(arrived) && arrived[i].IsZero() {
				arrived[i] = now
				missing--
			}
		}
	}
	return nil
}

// compareRates adds what a rate cost, ours next to the plain relay's.
func (w *world) compareRates(ours, plain map[string]float64, rate int) {
	step := plural(rate, "record") + "/s: "
	wanted := map[string]string{}
	if rate == relayRates[0] {
		wanted = map[string]string{"itself": "≤ 3 % of a core", "p50": "≤ 4 ms"}
	}
	for _, f := range []struct{ key, name, unit string }{
		{"itself", "the process, CPU", "% of a core"},
		{"Postgres", "Postgres, CPU", "% of a core"},
		{"Redis", "Redis, CPU", "% of a core"},
		{"p50", "from commit to Redis, p50", "ms"},
		{"p99", "from commit to Redis, p99", "ms"},
	} {
		key := fmt.Sprint(rate) + ": " + f.key
		w.add(step+f.name, f.unit, ours[key], plainLimit(wanted[f.key], plain[key]))
	}
}
