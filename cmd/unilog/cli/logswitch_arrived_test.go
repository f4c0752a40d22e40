package cli

import (
	"context"
	"log/slog"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
	"github.com/rocketrides/unilog/switchlog"
)

// TestLogHasArrivedWhenItIsLed moves a log while nobody streams: the copy is complete,
// but nobody goes on in it.
func TestLogHasArrivedWhenItIsLed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	db := testenv.Database(t, "logswitch", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer)
	})
	stream := testenv.StreamName(t)
	open := func(name string) *redislog.Log {
		log, err := redislog.Open(ctx, testenv.PatientRedis(testenv.SharedRedis(t)), stream+name)
		must(err)
		t.Cleanup(log.Close)
		return log
	}
	arrived := func(log *redislog.Log) bool {
		arrived, err := hasArrived(ctx, db, "", log)
		must(err)
		return arrived
	}
	run := func(log *redislog.Log) (stop func()) {
		s, err := streamer.New(streamer.Config{DB: db, Log: log, Logger: slog.New(slog.DiscardHandler)})
		must(err)
		ctx, cancel := context.WithCancel(ctx)
		var running errgroup.Group
		running.Go(func() error { return s.Run(ctx) })
		await.True(t, "the log to arrive", func() bool { return arrived(log) })
		return func() { cancel(); must(running.Wait()) }
	}
	before, after := open(""), open("b")
	run(before)()
	_, err := switchlog.Copy(ctx, db, "", after, switchlog.Keep{Records: 10})
	must(err)
	_, err = switchlog.Move(ctx, db, "", "b")
	must(err)
	if arrived(after) {
		t.Error("it has arrived where nobody leads")
	}
	run(after)()
}
