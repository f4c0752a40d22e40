package bench

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

const (
	// RelayCommand is the subcommand of [Config.Command] that runs [Relay].
	RelayCommand = "plain-relay"

	// plainStream is where the plain relay publishes.
	plainStream = "plain-relay"
	// plainBatch is how many records it takes at once, and plainPause how long it
	// sleeps when there are none.
	plainBatch = 1000
	plainPause = 50 * time.Millisecond
)

// Relay is the relay that a team would write itself, to compare with: it publishes
// rows of its own table with XADD and deletes them, in one transaction, until ctx
// ends. It keeps no order between writers, sends twice after a crash, and has no
// archive.
func Relay(ctx context.Context, databaseURL, redisURL string) error {
	db, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	redis, err := connectRedis(redisURL)
	if err != nil {
		return fmt.Errorf("connect to Redis: %w", err)
	}
	defer redis.Close()
	for {
		n, err := relayBatch(ctx, db, redis)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if n > 0 {
			continue
		}
		select {
		case <-time.After(plainPause):
		case <-ctx.Done():
			return nil
		}
	}
}

// relayBatch publishes and deletes up to a batch, and returns how many there were.
func relayBatch(ctx context.Context, db *pgx.Conn, redis rueidis.Client) (n int, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlPlainTake, plainBatch)
		if err != nil {
			return err
		}
		var ids []int64
		var entries rueidis.Commands
		var id int64
		var kind, key, payload string
		_, err = pgx.ForEachRow(rows, []any{&id, &kind, &key, &payload}, func() error {
			ids = append(ids, id)
			entries = append(entries, redis.B().Xadd().Key(plainStream).Id("*").FieldValue().
				FieldValue("type", kind).FieldValue("key", key).FieldValue("payload", payload).Build())
			return nil
		})
		if err != nil || len(ids) == 0 {
			return err
		}
		for _, result := range redis.DoMulti(ctx, entries...) {
			if err := result.Error(); err != nil {
				return fmt.Errorf("publish: %w", err)
			}
		}
		n = len(ids)
		_, err = tx.Exec(ctx, sqlPlainDelete, ids)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("relay a batch: %w", err)
	}
	return n, nil
}

// stagePlain stages records for the plain relay, as [stageOurs] does for ours.
func stagePlain(ctx context.Context, db *pgx.Conn, from, n int) error {
	kinds, keys, payloads := make([]string, n), make([]string, n), make([]string, n)
	for i := range n {
		kinds[i], keys[i], payloads[i] = "ride.created", strconv.Itoa(from+i), string(relayedRide(from+i))
	}
	_, err := db.Exec(ctx, sqlPlainStage, kinds, keys, payloads)
	return err
}

// relayedRide is the JSON of a ride.
func relayedRide(id int) []byte {
	return fmt.Appendf(nil, `{"id": %d, "distance": %d.%02d, "customer_id": %d}`, id, 5+id%995, id%100, id%5000)
}
