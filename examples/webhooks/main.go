// Webhooks posts each record of the log to a URL, signed as the Standard
// Webhooks specification says: at least once, and in order within a partition.
package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/deliverer"
	"github.com/rocketrides/unilog/redislog"
)

// requestTimeout bounds one request.
const requestTimeout = 20 * time.Second

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		slog.Error("stopped", "err", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	hook, err := newWebhook(os.Getenv("WEBHOOK_URL"), os.Getenv("WEBHOOK_SECRET"))
	if err != nil {
		return err
	}
	park, err := strconv.ParseBool(cmp.Or(os.Getenv("WEBHOOK_PARK"), "false"))
	if err != nil {
		return fmt.Errorf("WEBHOOK_PARK: %w", err)
	}
	db, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		return err
	}
	defer db.Close()
	log, err := redislog.Open(ctx, os.Getenv("REDIS_URL"), cmp.Or(os.Getenv("STREAM_NAME"), "rocket-rides-log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cfg := config(hook, db, log)
	cfg.ParkRejected = park
	deliverer, err := deliverer.New(cfg)
	if err != nil {
		return err
	}
	slog.Info("delivering", "name", cfg.Name)
	return deliverer.Run(ctx)
}

// config delivers one record a request, so that each is saved as soon as it has
// arrived.
func config(hook *webhook, db *pgxpool.Pool, log unilog.Log) deliverer.Config {
	return deliverer.Config{
		Name:        cmp.Or(os.Getenv("WEBHOOK_NAME"), "webhook"),
		Log:         log,
		Archive:     db,
		Checkpoints: deliverer.PostgresCheckpoints(db),
		Deliver:     hook.deliver,
		Timeout:     requestTimeout,
	}
}
