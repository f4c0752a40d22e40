package consumer_test

import (
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/world"
)

// BenchmarkStage stages a thousand records in a transaction of their own.
func BenchmarkStage(b *testing.B) {
	w := world.Setup(b)
	records := make([]unilog.Record, 1000)
	for i := range records {
		records[i] = world.Record("123.45")
	}
	b.ReportAllocs()
	for b.Loop() {
		w.Must(unilog.Stage(w.Ctx, w.DB, records...))
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
	w.Exec(`TRUNCATE staged_log_records`)
}

// BenchmarkDrain numbers and publishes a backlog of 10,000 records.
func BenchmarkDrain(b *testing.B) {
	w := world.SetupOnRedis(b)
	s := w.Streamer()
	w.Drain(s)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		w.CommitMany(10_000)
		b.StartTimer()
		n += w.Drain(s)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkConsume reads 10,000 entries and saves a checkpoint for each batch.
func BenchmarkConsume(b *testing.B) {
	w := world.SetupOnRedis(b)
	w.CommitMany(10_000)
	w.Drain(w.Streamer())
	n := 0
	c := w.Consumer("count", func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(new(int)) })
	b.ReportAllocs()
	for b.Loop() {
		w.Exec(`UPDATE checkpoints SET "offset" = 0`)
		c.Reread()
		n += w.Consume(c)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	w.Exec(`TRUNCATE checkpoints, amounts`)
}
