package kafkalog_test

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// TestKafkaDeletedTopicIsRebuilt deletes the topic under a streamer and its consumer.
func TestKafkaDeletedTopicIsRebuilt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	db := testenv.Database(t, "kafkalog", func(ctx context.Context, pool *pgxpool.Pool) error {
		if err := migration.Up(ctx, pool, migration.Log, migration.Consumer); err != nil {
			return err
		}
		_, err := pool.Exec(ctx, `CREATE TABLE applied ("offset" bigint PRIMARY KEY)`)
		return err
	})
	quiet := slog.New(slog.DiscardHandler)
	streamer, err := streamer.New(streamer.Config{DB: db, Log: f.log, Logger: quiet})
	f.must(err)
	consumer, err := consumer.New(consumer.Config{
		Name: "consumer", DB: db, Log: f.another(), Logger: quiet,
		Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
			_, err := tx.Exec(ctx, `INSERT INTO applied VALUES ($1)`, e.Offset)
			return err
		}),
	})
	f.must(err)
	commit := func(n int) {
		f.must(pgx.BeginFunc(t.Context(), db, func(tx pgx.Tx) error {
			return unilog.Stage(t.Context(), tx, newRecords(n)...)
		}))
	}
	applied := func() (n int) { // the primary key sees that none is twice
		f.must(db.QueryRow(t.Context(), `SELECT count(*) FROM applied`).Scan(&n))
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error { return streamer.Run(ctx) })
	group.Go(func() error { return consumer.Run(ctx) })
	total := 0
	for range 3 {
		commit(100)
		total += 100
		await.Equal(t, "records applied", total, applied)
		_, err := f.admin.DeleteTopic(t.Context(), f.topic)
		f.must(err)
		commit(100)
		total += 100
	}
	await.Equal(t, "the head", int64(total), func() int64 {
		h, err := f.log.Head(t.Context(), 0)
		f.must(err)
		return h.Offset
	})
	await.Equal(t, "records applied", total, applied)
	f.wantCommitted(total)
	cancel()
	f.must(group.Wait())
}

func newRecords(n int) []unilog.Record {
	records := make([]unilog.Record, n)
	for i := range records {
		records[i] = entry(1).Record
	}
	return records
}
