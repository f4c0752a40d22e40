package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Rides a second: from idle, in general, and for the plot.
const (
	idleRate    = 1
	commonRate  = 1000
	latencyName = "bare INSERT, XADD and UPDATE in turn"
)

var loadRates = []float64{100, 250, 500, commonRate, 1500, 2000}

// measureLatencies measures how long rides take to their consumers, with none
// before them and at several loads.
func measureLatencies(ctx context.Context, r *round) error {
	return r.within(ctx, func(w *world) error {
		if _, err := w.start("streamer"); err != nil {
			return err
		}
		rates := append([]float64{idleRate}, loadRates...)
		results := make([]*hdrhistogram.Histogram, len(rates))
		for i, rate := range rates {
			w.progress.show(float64(i)/float64(len(rates)+1), number(rate)+" rides/s")
			result, err := measureLatency(ctx, w.databaseURL, w.redisURL, stream, rate, w.d)
			if err != nil {
				return w.blame(err)
			}
			results[i] = result.sinceDue
		}
		if err := w.stop(); err != nil {
			return err
		}
		bare, err := w.bareJourneys(ctx)
		if err != nil {
			return err
		}
		p50, p99 := series{name: "p50"}, series{name: "p99"}
		for i, rate := range rates {
			quantiles := []float64{50, 99}
			if rate == idleRate || rate == commonRate {
				quantiles = append(quantiles, 99.9)
			}
			for _, q := range quantiles {
				w.add(fmt.Sprintf("%s, p%g", plural(int(rate), "ride")+"/s", q), "ms",
					milliseconds(results[i].ValueAtPercentile(q)), limit{fmt.Sprintf("%s, p%g", latencyName, q), milliseconds(bare.ValueAtPercentile(q))})
			}
			if slices.Contains(loadRates, rate) {
				p50.points = append(p50.points, point{rate, milliseconds(results[i].ValueAtPercentile(50))})
				p99.points = append(p99.points, point{rate, milliseconds(results[i].ValueAtPercentile(99))})
			}
		}
		r.load = []series{p50, p99}
		return nil
	})
}

// bareJourneys does the least that a ride's way to a consumer needs: it books
// one, appends it to a stream and saves a checkpoint, one after the other.
func (w *world) bareJourneys(ctx context.Context) (*hdrhistogram.Histogram, error) {
	const name = "bare"
	conn, err := w.db.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, sqlBareConsumer, name, 0); err != nil {
		return nil, err
	}
	h := newHistogram()
	w.progress.show(0.9, "the bare loop")
	for began := time.Now(); time.Since(began) < w.d; {
		sent := time.Now()
		if _, err := conn.Exec(ctx, pgbenchScript); err != nil {
			return nil, err
		}
		add := w.redis.B().Xadd().Key(name).Id("*").FieldValue().FieldValue("data", `{"id": 123456, "distance": 123.45}`).
			FieldValue("action", "create").FieldValue("object", "ride").FieldValue("staged_at", "1700000000000000").FieldValue("key", "123456").Build()
		if err := w.redis.Do(ctx, add).Error(); err != nil {
			return nil, err
		}
		if _, err := conn.Exec(ctx, sqlBareStep, name); err != nil {
			return nil, err
		}
		if err := h.RecordValue(time.Since(sent).Microseconds()); err != nil {
			return nil, err
		}
	}
	return h, nil
}
