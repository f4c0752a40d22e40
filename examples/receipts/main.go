// Command receipts writes a receipt for every ride into a database of its own. It
// knows nothing of Rocket Rides but the log; see README.md.
package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/redislog"
)

func main() {
	s := service{
		databaseURL: os.Getenv("DATABASE_URL"), // its own
		redisURL:    os.Getenv("REDIS_URL"),
		stream:      cmp.Or(os.Getenv("STREAM_NAME"), "rocket-rides-log"),
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := s.run(ctx)
	stop()
	if err != nil {
		slog.Error("receipts ends", "err", err)
		os.Exit(1)
	}
}

type service struct {
	databaseURL, redisURL, stream string

	hooks consumer.Hooks // for the test
}

// run writes receipts until ctx ends. Any number of processes may do so at once.
func (s service) run(ctx context.Context) error {
	if s.databaseURL == "" || s.redisURL == "" {
		return errors.New("set DATABASE_URL, to a database of its own, and REDIS_URL")
	}
	db, err := pgxpool.New(ctx, s.databaseURL)
	if err != nil {
		return err
	}
	defer db.Close()
	// The library's tables, for the checkpoint, and our own.
	if err := migration.Up(ctx, db, migration.Consumer, tables()); err != nil {
		return err
	}
	log, err := redislog.Open(ctx, s.redisURL, s.stream)
	if err != nil {
		return err
	}
	defer log.Close()
	receipts, err := consumer.New(consumer.Config{
		Name: "receipts", DB: db, Log: log, Handler: issue, Hooks: s.hooks,
		// No Archive: that is the source's database.
	})
	if err != nil {
		return err
	}
	slog.Info("writing receipts", "stream", s.stream)
	err = receipts.Run(ctx)
	var gap *unilog.GapError
	if errors.As(err, &gap) {
		return fmt.Errorf("the log has dropped the records %d to %d of partition %d before they were read: "+
			"take a snapshot of the rides, as README.md says under After a gap, and start again",
			gap.From, gap.To, gap.Partition)
	}
	return err
}

//go:embed migrations/*.sql
var files embed.FS

func tables() migration.Set {
	root, err := fs.Sub(files, "migrations")
	if err != nil {
		panic(err) // the directory is embedded
	}
	return migration.Set{Name: "receipts", FS: root}
}

// A metre costs 1.5 cents; numeric keeps every digit of it. A ride without an id
// or a distance breaks a constraint, which halts the consumer at its record.
// Index: receipts_pkey, which would refuse a second receipt for a ride.
const sqlIssue = `
INSERT INTO receipts (ride_id, distance, cents, partition, "offset")
SELECT (data ->> 'id')::bigint, distance, distance * 1.5, partition, "offset"
FROM unnest($1::jsonb[], $2::int[], $3::bigint[]) AS r (data, partition, "offset"),
    LATERAL (SELECT (data ->> 'distance')::numeric AS distance) AS d`

// issue is the [consumer.Handler]. All its state is in the transaction, so it may be
// called for several partitions at once.
func issue(ctx context.Context, tx pgx.Tx, entries []unilog.Entry) error {
	var data []string
	var partitions []int
	var offsets []int64
	for _, e := range entries {
		if e.Action != "create" || e.Object != "ride" {
			continue // the log may tell of other things, now or later
		}
		data = append(data, string(e.Data))
		partitions = append(partitions, e.Partition)
		offsets = append(offsets, e.Offset)
	}
	if _, err := tx.Exec(ctx, sqlIssue, data, partitions, offsets); err != nil {
		return fmt.Errorf("issue %d receipts: %w", len(data), err)
	}
	slog.Info("issued", "receipts", len(data), "last", entries[len(entries)-1].Offset)
	return nil
}
