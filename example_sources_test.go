package unilog_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/redislog"
	"github.com/rocketrides/unilog/streamer"
)

// One state made of the logs of several databases: a Consumer for each, with a
// name, and so a checkpoint, of its own. In a service their Runs are in an errgroup.
func Example_severalSources() {
	ctx := context.Background()
	state, _, closeState := exampleServers(ctx, "totals")
	defer closeState()
	_, err := state.Exec(ctx, `
		-- A row for each source: they do not wait for each other.
		CREATE TABLE revenues (source text PRIMARY KEY, cents bigint NOT NULL);
		-- Refuses two of them the same log.
		CREATE UNIQUE INDEX ON unilog.checkpoints (log_id, partition) WHERE name LIKE 'totals/%'`)
	check(err)

	for source, cents := range map[string]string{"eu": "995", "us": "1005"} {
		stream, closeSource := exampleSource(ctx, source, cents)
		defer closeSource()
		consumer, err := consumer.New(consumer.Config{
			Name: "totals/" + source, DB: state, Log: stream,
			Handler: consumer.Each(func(ctx context.Context, tx pgx.Tx, e unilog.Entry) error {
				_, err := tx.Exec(ctx, `
					INSERT INTO revenues AS r VALUES ($1, ($2::jsonb ->> 'cents')::bigint)
					ON CONFLICT (source) DO UPDATE SET cents = r.cents + excluded.cents`, source, e.Data)
				return err
			}),
		})
		check(err)
		_, err = consumer.RunOnce(ctx)
		check(err)
	}

	var cents int
	check(state.QueryRow(ctx, `SELECT sum(cents) FROM revenues`).Scan(&cents))
	fmt.Println("all sources:", cents)
	// Output:
	// all sources: 2000
}

// exampleSource returns the log of a database of its own that has one order.
func exampleSource(ctx context.Context, name, cents string) (*redislog.Log, func()) {
	db, stream, closeAll := exampleServers(ctx, name)
	check(unilog.Stage(ctx, db, unilog.Record{
		Action: "create", Object: "order", Data: json.RawMessage(`{"id": 1, "cents": ` + cents + `}`),
	}))
	streamer, err := streamer.New(streamer.Config{DB: db, Log: stream, Logger: slog.New(slog.DiscardHandler)})
	check(err)
	_, err = streamer.RunOnce(ctx)
	check(err)
	return stream, closeAll
}
