// Package plainrelay is the relay that a team would write itself, to compare with: it
// publishes the rows of a table of its own with XADD, and deletes them, in one
// transaction. It keeps no order between relays, sends twice after a crash, and has no
// archive.
package plainrelay

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
)

// Stream is where the relay publishes, and Field the field of an entry that has the
// record's JSON.
const (
	Stream = "plain-relay"
	Field  = "payload"
)

// Config says where the relay works, and how.
type Config struct {
	DatabaseURL, RedisURL string
	Batch                 int           // how many records it takes at once; default: 1,000
	Pause                 time.Duration // how long it sleeps when there are none; default: 50 ms
}

// The defaults of a Config.
const (
	defaultBatch = 1000
	defaultPause = 50 * time.Millisecond
)

// Run relays until ctx ends. It finishes the batch that it has begun.
func Run(ctx context.Context, c Config) error {
	if c.Batch == 0 {
		c.Batch = defaultBatch
	}
	if c.Pause == 0 {
		c.Pause = defaultPause
	}
	db, err := pgx.Connect(ctx, c.DatabaseURL)
	if err != nil {
		return fmt.Errorf("connect to Postgres: %w", err)
	}
	defer func() { _ = db.Close(context.WithoutCancel(ctx)) }()
	redis, err := connectRedis(c.RedisURL)
	if err != nil {
		return fmt.Errorf("connect to Redis: %w", err)
	}
	defer redis.Close()
	for {
		n, err := relayBatch(context.WithoutCancel(ctx), db, redis, c.Batch)
		if err != nil {
			return err
		}
		if n > 0 && ctx.Err() == nil {
			continue
		}
		select {
		case <-time.After(c.Pause):
		case <-ctx.Done():
			return nil
		}
	}
}

func connectRedis(url string) (rueidis.Client, error) {
	option, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, err
	}
	option.DisableCache = true
	return rueidis.NewClient(option)
}

// relayBatch publishes and deletes up to a batch, and returns how many there were.
func relayBatch(ctx context.Context, db *pgx.Conn, redis rueidis.Client, batch int) (n int, err error) {
	err = pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sqlTake, batch)
		if err != nil {
			return err
		}
		var ids []int64
		var entries rueidis.Commands
		var id int64
		var kind, key, payload string
		_, err = pgx.ForEachRow(rows, []any{&id, &kind, &key, &payload}, func() error {
			ids = append(ids, id)
			entries = append(entries, redis.B().Xadd().Key(Stream).Id("*").FieldValue().
				FieldValue("type", kind).FieldValue("key", key).FieldValue(Field, payload).Build())
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
		_, err = tx.Exec(ctx, sqlDelete, ids)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("relay a batch: %w", err)
	}
	return n, nil
}
