package pglog_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
)

// BenchmarkRead reads 4,000 entries.
func BenchmarkRead(b *testing.B) {
	w := setup(b)
	const records = 4000
	w.stage(1, records)
	w.drain(w.streamer())
	b.ReportAllocs()
	for b.Loop() {
		read, err := w.log.Read(w.ctx, 0, unilog.Cursor{}, records, 0)
		if err != nil || len(read) != records {
			b.Fatal(len(read), err)
		}
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkConsume reads 20,000 entries and saves a checkpoint for each batch.
func BenchmarkConsume(b *testing.B) {
	w := setup(b)
	const records = 20_000
	w.stage(1, records)
	w.drain(w.streamer())
	done := make(chan struct{})
	n := 0
	c := func() *consumer.Consumer {
		return w.consumer("count", func(cfg *consumer.Config) {
			cfg.Handler = func(_ context.Context, _ pgx.Tx, entries []unilog.Entry) error {
				n += len(entries)
				return nil
			}
			cfg.Hooks.AfterCommit = func(context.Context, []unilog.Entry) {
				if n == records {
					done <- struct{}{}
				}
			}
		})
	}
	for b.Loop() {
		n = 0
		stop := w.run(c().Run)
		<-done
		stop()
		w.exec(`UPDATE checkpoints SET "offset" = 0`)
	}
	b.ReportMetric(float64(b.N*records)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkWake commits a record at a time while everyone is at rest, and measures
// from the end of the commit until it is read.
func BenchmarkWake(b *testing.B) {
	w := setup(b)
	stop := w.run(w.streamer().Run)
	defer stop()
	var took []time.Duration
	after := int64(0)
	for b.Loop() {
		read := w.waiting(w.log, after)
		w.stage(1, 1)
		committed := time.Now()
		after = read()[0].Offset
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/median")
}
