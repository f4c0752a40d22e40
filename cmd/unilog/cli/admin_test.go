package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
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
	stream, err := redislog.Open(t.Context(), testenv.PatientRedis(testenv.SharedRedis(t)), testenv.StreamName(t))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	log := slog.New(slog.DiscardHandler)
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
	says := func(want string) {
		t.Helper()
		await.That(t, "the consumer to say "+want, func() string {
			select {
			case <-attempts:
			default:
			}
			if got := fmt.Sprint(consumer.Ready()); !strings.Contains(got, want) {
				return got
			}
			return ""
		})
	}
	says("the checkpoint of consumer c")
	exec1(t, pool, `UPDATE unilog.checkpoints SET "offset" = 0`)
	says("<nil>")
	stop()
	<-ended
}

// TestHaltedProcessSaysSoOnce unless it had gone on meanwhile, or halts for another reason.
func TestHaltedProcessSaysSoOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var said bytes.Buffer
		ctx, stop := context.WithCancel(t.Context())
		attempts := 0
		persist(ctx, slog.New(slog.NewTextHandler(&said, nil)), time.Millisecond, func(context.Context) error {
			switch attempts++; attempts {
			case 4:
				return errors.New("another")
			case 6:
				time.Sleep(HaltedPause + time.Second)
			case 8:
				stop()
				return nil
			}
			return errors.New("mend me")
		})
		if errs, mine := strings.Count(said.String(), "level=ERROR"), strings.Count(said.String(), `err="mend me"`); errs != 4 || mine != 3 {
			t.Errorf("of 7 halts, it said %d, %d of them of the first reason:\n%s", errs, mine, said.String())
		}
	})
}
