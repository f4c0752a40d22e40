package cli

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	return testenv.Database(t, "log", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer)
	})
}

func exec1(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// What was mended elsewhere needs no new start.
func TestHaltedProcessGoesOnWhenItIsMended(t *testing.T) {
	t.Parallel()
	pool := database(t)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('c', 0, 9)`)
	stream, err := redislog.Open(t.Context(), testenv.SharedRedis(t), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	consumer, err := consumer.New(consumer.Config{
		Name: "c", DB: pool, Archive: pool, Log: stream, Logger: log, Handler: consumer.Each(func(context.Context, pgx.Tx, unilog.Entry) error { return nil }),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	attempts := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		persist(ctx, log, time.Millisecond, func(ctx context.Context) error {
			select {
			case attempts <- struct{}{}:
			case <-ctx.Done():
			}
			return consumer.Run(ctx)
		})
	}()
	for range 3 {
		await.Receive(t, "another attempt", attempts)
	}
	if err := consumer.Ready(); err == nil || !strings.Contains(err.Error(), "the checkpoint of consumer c") {
		t.Errorf("halted, it says %v", err)
	}
	exec1(t, pool, `UPDATE unilog.checkpoints SET "offset" = 0`)
	await.That(t, "the consumer to be ready", func() string {
		select {
		case <-attempts:
		default:
		}
		if err := consumer.Ready(); err != nil {
			return err.Error()
		}
		return ""
	})
	stop()
	<-ended
	if n := strings.Count(said.String(), "level=ERROR"); n != 1 {
		t.Errorf("it said %d times that it has halted:\n%s", n, said.String())
	}
}
