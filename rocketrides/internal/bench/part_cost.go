package bench

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/rocketrides/unilog/internal/kafka"
	"github.com/rocketrides/unilog/migration"
)

const (
	// costLoad is how many connections book rides in part cost.
	costLoad = 64
	// costPartitions is what several partitions cost.
	costPartitions = 4
)

// measureCost measures what a record costs at each step, in batches as large as a
// backlog makes them.
func measureCost(ctx context.Context, r *round) error {
	if runtime.GOOS != "linux" {
		r.add("all", "", 0, limit{name: "only Linux tells"})
		return nil
	}
	r.progress.span(0, 0.5)
	err := r.within(ctx, func(w *world) error {
		// What it writes, not what it writes again to compact it.
		if err := w.redis.Do(ctx, w.redis.B().ConfigSet().ParameterValue().ParameterValue("auto-aof-rewrite-percentage", "0").Build()).Error(); err != nil {
			return err
		}
		records, err := w.costOfBooking(ctx)
		if err != nil {
			return err
		}
		if _, _, err := w.costOfPublishing(ctx, records, "Redis", "Redis"); err != nil {
			return err
		}
		return w.costOfConsuming(ctx, records, "Redis")
	})
	if err != nil {
		return err
	}
	r.progress.span(0.5, 0.6)
	if err := r.within(ctx, func(w *world) error { return w.costOfLoad(ctx) }); err != nil {
		return err
	}
	r.progress.span(0.6, 0.7)
	if err := costByPartitions(ctx, r); err != nil {
		return err
	}
	r.progress.span(0.7, 1)
	err = r.servers.startKafka(ctx)
	if errors.Is(err, kafka.ErrMissing) {
		r.add("publish to Kafka", "", 0, limit{name: "no Kafka here"})
		return nil
	}
	if err != nil {
		return err
	}
	return r.within(ctx, func(w *world) error {
		w.logURL = "kafka://" + w.servers.kafka.Addresses() + "/" + w.name
		if err := w.stage(ctx, w.records); err != nil {
			return err
		}
		if _, _, err := w.costOfPublishing(ctx, w.records, "Kafka", "Kafka"); err != nil {
			return err
		}
		return w.costOfConsuming(ctx, w.records, "Kafka")
	})
}

// costByPartitions measures the same records in one partition and in several.
func costByPartitions(ctx context.Context, r *round) error {
	one := unlimited
	for _, partitions := range []int{1, costPartitions} {
		err := r.within(ctx, func(w *world) error {
			if _, err := migration.Repartition(ctx, w.db, partitions); err != nil {
				return err
			}
			if err := w.stage(ctx, w.records); err != nil {
				return err
			}
			where := plural(partitions, "partition") + " in Redis"
			before, after, err := w.costOfPublishing(ctx, w.records, where, "Redis")
			if err != nil {
				return err
			}
			cost := microseconds(after.postgres-before.postgres) / float64(w.records)
			if partitions > 1 {
				w.add("publish to "+where+": Postgres, CPU, next to one", "µs/record", cost, one)
			}
			one = limit{"1 partition; wanted: ratio ≤ 1.15", cost}
			return nil
		})
		if err != nil {
			return fmt.Errorf("%s: %w", plural(partitions, "partition"), err)
		}
	}
	return nil
}

// costOfBooking books rides at full load, and returns how many.
func (w *world) costOfBooking(ctx context.Context) (records int, err error) {
	url, err := w.startAPI(ctx)
	if err != nil {
		return 0, err
	}
	api := w.programs[0]
	before, err := w.used(ctx, api)
	if err != nil {
		return 0, err
	}
	if _, err := loadAPI(ctx, url, costLoad, false, w.d); err != nil {
		return 0, w.blame(err)
	}
	after, err := w.used(ctx, api)
	if err != nil {
		return 0, err
	}
	if err := w.stop(); err != nil {
		return 0, err
	}
	if records, err = w.countRides(ctx); err != nil {
		return 0, err
	}
	w.addCosts("book, 64 connections", "api", "", before, after, records)
	_, err = w.db.Exec(ctx, `CHECKPOINT`)
	return records, err
}

// costOfPublishing drains what is staged, and adds what the archive then takes.
func (w *world) costOfPublishing(ctx context.Context, records int, where, engine string) (before, after usage, err error) {
	step := "publish to " + where
	before, after, err = w.costOf(ctx, step, "streamer", engine, records, w.published, "streamer", fmt.Sprintf("--keep-records=%d", records))
	if err != nil {
		return before, after, err
	}
	var bytes float64
	if err := w.db.QueryRow(ctx, sqlArchiveBytes).Scan(&bytes); err != nil {
		return before, after, fmt.Errorf("measure the archive: %w", err)
	}
	w.add(step+": archive", "bytes/record", bytes/float64(records), unlimited)
	return before, after, nil
}

func (w *world) costOfConsuming(ctx context.Context, records int, engine string) error {
	const name = "cost"
	_, _, err := w.costOf(ctx, "consume from "+engine, "consumer", engine, records,
		func(ctx context.Context) (int64, error) { return w.applied(ctx, name) }, "consumer", name)
	return err
}

// costOfLoad books rides at a common rate, and consumes them, so that batches are
// as small as they then are.
func (w *world) costOfLoad(ctx context.Context) error {
	streamer, err := w.start("streamer", "--keep-records=1000000")
	if err != nil {
		return err
	}
	before, err := w.used(ctx, streamer)
	if err != nil {
		return err
	}
	result, err := measureLatency(ctx, w.databaseURL, w.redisURL, stream, commonRate, w.d)
	if err != nil {
		return w.blame(err)
	}
	after, err := w.used(ctx, streamer)
	if err != nil {
		return err
	}
	records, err := w.countRides(ctx)
	if err != nil {
		return err
	}
	step := plural(commonRate, "ride") + "/s and two consumers"
	w.addCosts(step, "streamer", "Redis", before, after, records)
	for _, q := range []float64{50, 99} {
		w.add(fmt.Sprintf("%s: latency, p%g", step, q), "ms", milliseconds(result.sinceDue.ValueAtPercentile(q)), unlimited)
	}
	return w.stop()
}

func (w *world) countRides(ctx context.Context) (n int, err error) {
	err = w.db.QueryRow(ctx, `SELECT count(*) FROM rides`).Scan(&n)
	return n, err
}

// costOf starts a process, follows it until all records are done, and ends it. It
// returns what was used before and after.
func (w *world) costOf(ctx context.Context, step, process, engine string, records int, look func(context.Context) (int64, error), args ...string) (before, after usage, err error) {
	p, err := w.start(args...)
	if err != nil {
		return before, after, err
	}
	if before, err = w.used(ctx, p); err != nil {
		return before, after, err
	}
	if _, err := w.follow(ctx, int64(records), look); err != nil {
		return before, after, err
	}
	if after, err = w.used(ctx, p); err != nil {
		return before, after, err
	}
	w.addCosts(step, process, engine, before, after, records)
	return before, after, w.stop()
}

// addCosts adds those that there are.
func (w *world) addCosts(step, process, engine string, before, after usage, records int) {
	n := float64(records)
	cpu := func(name string, before, after time.Duration) {
		w.add(step+": "+name+", CPU", "µs/record", float64((after-before).Nanoseconds())/1000/n, unlimited)
	}
	bytes := func(name string, before, after float64) {
		w.add(step+": "+name, "bytes/record", (after-before)/n, unlimited)
	}
	cpu(process, before.process, after.process)
	cpu("Postgres", before.postgres, after.postgres)
	if engine != "" {
		cpu(engine, before.engine, after.engine)
	}
	bytes("WAL", before.wal, after.wal)
	bytes(process+", read and written", before.moved, after.moved)
	if engine == "Redis" {
		bytes("Redis, received", before.received, after.received)
		bytes("Redis, sent", before.sent, after.sent)
	}
	if engine != "" && process == "streamer" {
		bytes(engine+", on disk", before.disk, after.disk)
	}
	if engine == "Redis" && process == "streamer" {
		bytes("Redis, memory", before.memory, after.memory)
	}
}
