package unilog_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log"
	"log/slog"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/audit"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/postgres"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

// The whole way of a record: staged with what it tells of, numbered and
// published, and applied together with the consumer's checkpoint.
func Example() {
	ctx := context.Background()
	db, stream, closeAll := exampleServers(ctx, "example")
	defer closeAll()

	// The writer: the order and its record commit together or not at all.
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `INSERT INTO orders (id, cents) VALUES (1, 995)`); err != nil {
			return err
		}
		return unilog.Stage(ctx, tx, unilog.Record{
			Action: "create", Object: "order", Key: "1",
			Data: json.RawMessage(`{"id": 1, "cents": 995}`),
		})
	})
	check(err)

	// The streamer; a service calls its Run.
	streamer, err := streamer.New(streamer.Config{DB: db, Log: stream, Logger: slog.New(slog.DiscardHandler)})
	check(err)
	published, err := streamer.RunOnce(ctx)
	check(err)
	fmt.Println("published:", published)

	// A consumer; a service calls its Run.
	consumer, err := consumer.New(consumer.Config{
		Name: "revenue", DB: db, Archive: db, Log: stream,
		Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
			var order struct{ Cents int }
			if err := json.Unmarshal(e.Data, &order); err != nil {
				return err // rejects the record: the consumer halts, or parks it
			}
			_, err := tx.Exec(ctx, `UPDATE revenue SET cents = cents + $1`, order.Cents)
			return err
		}),
	})
	check(err)
	applied, err := consumer.RunOnce(ctx)
	check(err)
	fmt.Println("applied:", applied)

	// The proof, at any instant.
	balances, err := audit.Equation{
		Truth:  `SELECT sum(cents) FROM orders`,
		Totals: `SELECT 'revenue', cents FROM revenue`,
		Amount: `(data ->> 'cents')::numeric`,
	}.Check(ctx, db)
	check(err)
	for _, b := range balances {
		fmt.Println(b.Consumer, "has", b.Total, "of", b.Truth, "and agrees:", b.Agrees)
	}
	// Output:
	// published: 1
	// applied: 1
	// revenue has 995 of 995 and agrees: true
}

// exampleServers gives an example a database and a stream of its own, on
// servers that others use, too.
func exampleServers(ctx context.Context, name string) (*pgxpool.Pool, *redislog.Log, func()) {
	postgresURL, redisURL, err := testenv.URLs()
	check(err)
	admin, err := pgxpool.New(ctx, postgresURL)
	check(err)
	name += "_" + strings.ToLower(rand.Text())
	check(postgres.WhenUnused(ctx, admin, `CREATE DATABASE `+name))
	u, err := url.Parse(postgresURL)
	check(err)
	u.Path = "/" + name
	db, err := pgxpool.New(ctx, u.String())
	check(err)
	check(migration.Up(ctx, db, migration.Log, migration.Consumer))
	_, err = db.Exec(ctx, `
		CREATE TABLE orders (id bigint PRIMARY KEY, cents bigint NOT NULL);
		CREATE TABLE revenue (cents bigint NOT NULL);
		INSERT INTO revenue VALUES (0)`)
	check(err)
	stream, err := redislog.Open(ctx, testenv.PatientRedis(redisURL), name)
	check(err)
	return db, stream, func() {
		stream.Close()
		db.Close()
		check(postgres.WhenUnused(ctx, admin, `DROP DATABASE `+name+` WITH (FORCE)`))
		admin.Close()
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
