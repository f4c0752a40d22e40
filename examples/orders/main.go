// Command orders is a small service on unilog. It places an order every second,
// publishes a record of each, and consumes the records to keep the revenue. It needs
// DATABASE_URL, an empty database, and LOG_URL: redis://…, kafka://…, or postgres:
// for a log in the same database.
//
// In a real service the three parts may be three processes, each any number of times.
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/engine"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// place saves an order and stages its record. Both are committed, or neither is.
func place(ctx context.Context, db *pgxpool.Pool, id string, cents int) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders VALUES ($1, $2)`, id, cents); err != nil {
			return err
		}
		data := fmt.Appendf(nil, `{"cents": %d}`, cents)
		return unilog.Stage(ctx, tx, unilog.Record{Action: "create", Object: "order", Key: id, Data: data})
	})
}

// earn applies one record. Its transaction also saves the consumer's checkpoint.
func earn(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
	_, err := tx.Exec(ctx, `UPDATE revenue SET cents = cents + ($1::jsonb ->> 'cents')::bigint`, e.Data)
	return err
}

// serve runs until ctx ends, or until something fails that only a person can mend.
func serve(ctx context.Context, db *pgxpool.Pool, log unilog.Log) error {
	group, ctx := errgroup.WithContext(ctx)
	publisher, err1 := streamer.New(streamer.Config{DB: db, Log: log})
	revenue, err2 := consumer.New(consumer.Config{Name: "revenue", DB: db, Archive: db, Log: log, Handler: consumer.Each(earn)})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	group.Go(func() error { return publisher.Run(ctx) })
	group.Go(func() error { return revenue.Run(ctx) })
	group.Go(func() error { return placeOrders(ctx, db) })
	return group.Wait()
}

func placeOrders(ctx context.Context, db *pgxpool.Pool) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := place(ctx, db, rand.Text(), 995); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the order was not placed:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sqlTables are the service's own; revenue has one row for its one consumer.
const sqlTables = `
CREATE TABLE IF NOT EXISTS orders (id text PRIMARY KEY, cents bigint NOT NULL);
CREATE TABLE IF NOT EXISTS revenue (consumer text PRIMARY KEY, cents bigint NOT NULL);
INSERT INTO revenue VALUES ('revenue', 0) ON CONFLICT DO NOTHING`

func run(ctx context.Context, databaseURL, logURL string) error {
	db, err := pgxpool.New(ctx, databaseURL)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := migration.Up(ctx, db, migration.Log, migration.Consumer); err != nil {
		return err
	}
	if _, err := db.Exec(ctx, sqlTables); err != nil {
		return err
	}
	log, err := engine.Open(ctx, engine.Options{URL: logURL, DB: db})
	if err != nil {
		return err
	}
	defer log.Close()
	if err := serve(ctx, db, log); err != nil {
		return err
	}
	return check(context.WithoutCancel(ctx), db)
}

// check shows that the revenue is that of the orders. This holds at every instant.
func check(ctx context.Context, db *pgxpool.Pool) error {
	balances, err := audit.Equation{
		Truth:  `SELECT sum(cents) FROM orders`,
		Totals: `SELECT consumer, cents FROM revenue`,
		Amount: `(data ->> 'cents')::bigint`,
	}.Check(ctx, db)
	for _, b := range balances {
		fmt.Printf("orders: %s cents; %s: %s, and %s in the log, %s staged\n", b.Truth, b.Consumer, b.Total, b.Ahead, b.Staged)
		if !b.Agrees {
			err = errors.Join(err, fmt.Errorf("%s is off by %s cents", b.Consumer, b.Difference))
		}
	}
	return err
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), os.Getenv("LOG_URL")); err != nil {
		fmt.Fprintln(os.Stderr, "orders:", err)
		os.Exit(1)
	}
}
