package unilog_test

import (
	"testing"

	"github.com/rocketrides/unilog"
)

// BenchmarkStage stages a thousand records in a transaction of their own.
func BenchmarkStage(b *testing.B) {
	w := setup(b)
	records := make([]unilog.Record, 1000)
	for i := range records {
		records[i] = record("123.45")
	}
	b.ReportAllocs()
	for b.Loop() {
		w.must(unilog.Stage(w.ctx, w.db, records...))
	}
	b.ReportMetric(float64(b.N*len(records))/b.Elapsed().Seconds(), "records/s")
	w.exec(`TRUNCATE staged_log_records`)
}

// BenchmarkDrain numbers and publishes a backlog of 10,000 records.
func BenchmarkDrain(b *testing.B) {
	w := setup(b)
	s := w.streamer()
	w.drain(s)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		w.commitMany(10_000)
		b.StartTimer()
		n += w.drain(s)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkConsume reads 10,000 entries and saves a checkpoint for each batch.
func BenchmarkConsume(b *testing.B) {
	w := setup(b)
	w.commitMany(10_000)
	w.drain(w.streamer())
	n := 0
	c := w.consumer("count", func(cfg *unilog.ConsumerConfig) { cfg.Handler = countEntries(new(int)) })
	b.ReportAllocs()
	for b.Loop() {
		w.exec(`UPDATE checkpoints SET "offset" = 0`)
		c.Reread()
		n += w.consume(c)
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "records/s")
	w.exec(`TRUNCATE checkpoints, amounts`)
}
