package streamer_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestHaltedConsumerDoesNotFillTheLog has a Redis of 32 MiB, a consumer that has halted
// and for which the log keeps what it has not applied, and 60 MiB of records. The one
// that is well gets them all, and so does the halted one, from the archive.
func TestHaltedConsumerDoesNotFillTheLog(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t, "--maxmemory", "16mb", "--maxmemory-policy", "noeviction", "--save", "", "--appendonly", "no")
	w := world.SetupOn(t, testenv.Database(t, "world", world.MigrateWorld), server.URL())
	s := w.Streamer(func(cfg *streamer.Config) { cfg.KeepRecords = 100 })
	counts := func(cfg *consumer.Config) {
		name := cfg.Name
		cfg.Handler = func(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
			_, err := tx.Exec(ctx, `
				INSERT INTO sums AS s VALUES ($1, $2)
				ON CONFLICT (name) DO UPDATE SET total = s.total + excluded.total`, name, len(entries))
			return err
		}
	}
	w.Commit("1")
	w.Drain(s)
	halted := w.Consumer("halted", counts)
	w.WantCount("applied", w.Consume(halted), 1) // and is not seen again for long

	ctx, stop := context.WithCancel(w.Ctx)
	defer stop()
	well := w.Consumer("well", counts)
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	go func() { done <- well.Run(ctx) }()
	data := json.RawMessage(`{"amount": 1, "text": "` + strings.Repeat("x", 10_000) + `"}`)
	for range 30 {
		records := make([]unilog.Record, 100)
		for i := range records {
			records[i] = unilog.Record{Action: "note", Object: "amount", Data: data}
		}
		w.Must(unilog.Stage(w.Ctx, w.DB, records...))
	}
	w.AwaitTotal("well", "3001")
	go func() { done <- halted.Run(ctx) }()
	w.AwaitTotal("halted", "3001")
	stop()
	for range 3 {
		w.Must(world.Receive(w, "the processes to end", done))
	}
}

// TestLogThatHasRoomForOne leaves room for a record at a time.
func TestLogThatHasRoomForOne(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer(func(cfg *streamer.Config) { *cfg = streamer.WithAppendRecords(*cfg, 1) })
	w.Memory.SetLimit(1)
	c := w.Consumer("sum")
	w.Consume(c)
	w.CommitMany(20)
	w.Drain(s)
	w.Consume(c)
	w.WantTotal("sum", "20")
}
