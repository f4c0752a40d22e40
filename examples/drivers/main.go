// Command drivers is one small service, written with several libraries for Postgres. It
// places an order every second, publishes a record of each, and consumes the records to
// keep the revenue. It needs DATABASE_URL, an empty database, and the library's name:
//
//	go run . gorm
package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

// service is what each library has a file for.
type service interface {
	// place saves an order and stages its record. Both are committed, or neither is.
	place(ctx context.Context, o Order) error
	// handler adds records to the revenue, in the transaction that saves the consumer's
	// checkpoint, too.
	handler() consumer.Handler
	close() error
}

// services are by the names of libraries, which their consumers have, too.
var services = map[string]func(ctx context.Context, url string) (service, error){
	"pgx": openPgx, "pq": openPq, "gorm": openGORM, "bun": openBun, "sqlx": openSqlx, "sqlc": openSqlc, "ent": openEnt,
}

// Order is what they all save.
type Order struct {
	ID    string
	Cents int64
}

func (o Order) record() unilog.Record {
	data, _ := json.Marshal(o) // of a text and a number
	return unilog.Record{Action: "create", Object: "order", Key: o.ID, Data: data}
}

var errTooDear = errors.New("no order is for more than 1,000.00")

func (o Order) check() error {
	if o.Cents > 100_000 {
		return errTooDear
	}
	return nil
}

// total adds up what records say.
func total(entries []unilog.Entry) (cents int64, err error) {
	for _, e := range entries {
		var o Order
		if err := json.Unmarshal(e.Data, &o); err != nil {
			return 0, err // rejects the record
		}
		cents += o.Cents
	}
	return cents, nil
}

// openSQL opens a database by pgx's driver for database/sql.
func openSQL(url string) (*sql.DB, error) { return sql.Open("pgx", url) }

//go:embed sqlcdb/schema.sql
var sqlTables string

func setUp(ctx context.Context, db *pgxpool.Pool) error {
	if err := migration.Up(ctx, db, migration.Log, migration.Consumer); err != nil {
		return err
	}
	_, err := db.Exec(ctx, sqlTables)
	return err
}

// begin gives a consumer its row.
func begin(ctx context.Context, db *pgxpool.Pool, name string) error {
	_, err := db.Exec(ctx, `INSERT INTO revenue VALUES ($1, 0) ON CONFLICT DO NOTHING`, name)
	return err
}

func run(ctx context.Context, url, name string) error {
	open, ok := services[name]
	if !ok {
		return errors.New("name a library that has a file here, such as gorm")
	}
	s, err := open(ctx, url)
	if err != nil {
		return err
	}
	db, err := pgxpool.New(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	if err := errors.Join(setUp(ctx, db), begin(ctx, db, name)); err != nil {
		return err
	}
	log, err := pglog.Open(ctx, db, unilog.DefaultSchema)
	if err != nil {
		return err
	}
	defer log.Close()
	publisher, err1 := streamer.New(streamer.Config{DB: db, Log: log})
	revenue, err2 := consumer.New(consumer.Config{Name: name, DB: db, Archive: db, Log: log, Handler: s.handler()})
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return publisher.Run(ctx) })
	group.Go(func() error { return revenue.Run(ctx) })
	group.Go(func() error { return placeOrders(ctx, s) })
	return errors.Join(group.Wait(), s.close())
}

func placeOrders(ctx context.Context, s service) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := s.place(ctx, Order{rand.Text(), 995}); err != nil && ctx.Err() == nil {
			fmt.Fprintln(os.Stderr, "the order was not placed:", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Getenv("DATABASE_URL"), append(os.Args, "")[1]); err != nil {
		fmt.Fprintln(os.Stderr, "drivers:", err)
		os.Exit(1)
	}
}
