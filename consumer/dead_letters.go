package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// DeadLetter is a record that a consumer's handler rejected and that the
// consumer was told to pass over.
type DeadLetter struct {
	unilog.Entry

	Consumer string
	// Reason is the handler's error.
	Reason   string
	ParkedAt time.Time
}

// ErrNoDeadLetter says that a consumer has no dead letter at an offset of a partition,
// or that it was retried or discarded already.
var ErrNoDeadLetter = errors.New("unilog: there is no such dead letter")

// Index: dead_letters_pkey, except where another one is named.
const (
	sqlDeadLetters = `
SELECT partition, "offset", staged_at, action, object, key, data::text, headers::text, body, coalesce(content_type, ''), consumer, error, parked_at
FROM unilog.dead_letters
WHERE discarded_at IS NULL AND ($1 = '' OR consumer = $1) AND ($3 = 0 OR partition = $2 AND "offset" = $3)
ORDER BY consumer, partition, "offset"`

	// The lock makes the consumer wait in this partition. Index: checkpoints_pkey.
	sqlHoldPartition = `SELECT FROM unilog.checkpoints WHERE name = $1 AND partition = $2 FOR UPDATE`

	sqlUnpark = `
DELETE FROM unilog.dead_letters
WHERE consumer = $1 AND partition = $2 AND "offset" = $3 AND discarded_at IS NULL
    AND "offset" <= (SELECT "offset" FROM unilog.checkpoints AS c WHERE c.name = consumer AND c.partition = unilog.dead_letters.partition)`

	sqlDiscard = `
UPDATE unilog.dead_letters SET discarded_at = clock_timestamp()
WHERE consumer = $1 AND partition = $2 AND "offset" = $3 AND discarded_at IS NULL`
)

// In is the schema that unilog's tables are in; "" is [unilog.DefaultSchema]. Its
// methods are the functions of the same names, for that schema.
type In unilog.Schema

// Querier runs a query: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Beginner begins a transaction: a *pgxpool.Pool, a *pgx.Conn or a pgx.Tx.
type Beginner interface {
	Begin(ctx context.Context) (pgx.Tx, error)
}

// DeadLetters returns the dead letters of a consumer, or of all consumers with "", in
// the order of their offsets.
func DeadLetters(ctx context.Context, db Querier, consumer string) ([]DeadLetter, error) {
	return In("").DeadLetters(ctx, db, consumer)
}

// DeadLetters is the function [DeadLetters] in a schema.
func (in In) DeadLetters(ctx context.Context, db Querier, consumer string) ([]DeadLetter, error) {
	return in.deadLetters(ctx, db, consumer, 0, 0)
}

func (in In) deadLetters(ctx context.Context, db Querier, consumer string, partition int, offset int64) ([]DeadLetter, error) {
	if err := postgres.CheckVisible(ctx, db, unilog.Schema(in).Name(), "dead_letters"); err != nil {
		return nil, fmt.Errorf("read dead_letters: %w", err)
	}
	rows, err := db.Query(ctx, unilog.Schema(in).SQL(sqlDeadLetters), consumer, partition, offset)
	if err != nil {
		return nil, fmt.Errorf("read dead_letters: %w", err)
	}
	letters, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (DeadLetter, error) {
		var l DeadLetter
		var data, headers, body []byte
		var contentType string
		err := row.Scan(&l.Partition, &l.Offset, &l.StagedAt, &l.Action, &l.Object, &l.Key, &data, &headers, &body, &contentType,
			&l.Consumer, &l.Reason, &l.ParkedAt)
		if err != nil {
			return l, err
		}
		if contentType != "" {
			data = body
		}
		l.SetPayload(data, contentType)
		l.Headers, err = unilog.DecodeHeaders(headers)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read dead_letters: %w", err)
	}
	return letters, nil
}

// RetryDeadLetter gives a parked record to a handler again, and removes it from
// dead_letters in the same transaction. The record takes effect exactly once, though
// out of its order. The consumer may be running; it waits meanwhile, in this
// partition. If the handler rejects the record again, the record stays in
// dead_letters, and RetryDeadLetter returns the handler's error.
func RetryDeadLetter(ctx context.Context, db Beginner, consumer string, partition int, offset int64, handler Handler) error {
	return In("").RetryDeadLetter(ctx, db, consumer, partition, offset, handler)
}

// RetryDeadLetter is the function [RetryDeadLetter] in a schema.
func (in In) RetryDeadLetter(ctx context.Context, db Beginner, consumer string, partition int, offset int64, handler Handler) error {
	sql := unilog.Schema(in).SQL
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql(sqlHoldPartition), consumer, partition); err != nil {
			return fmt.Errorf("retry a dead letter: %w", err)
		}
		letters, err := in.deadLetters(ctx, tx, consumer, partition, offset)
		if err != nil {
			return err
		}
		tag, err := tx.Exec(ctx, sql(sqlUnpark), consumer, partition, offset)
		if err != nil {
			return fmt.Errorf("retry a dead letter: %w", err)
		}
		if len(letters) != 1 || tag.RowsAffected() != 1 {
			return ErrNoDeadLetter
		}
		return callHandler(ctx, handler, slog.Default(), &handlersTx{Tx: tx}, []unilog.Entry{letters[0].Entry})
	})
}

// DiscardDeadLetter marks a parked record as discarded. It is not deleted, because an
// audit still has to count it as parked.
func DiscardDeadLetter(ctx context.Context, db unilog.Execer, consumer string, partition int, offset int64) error {
	return In("").DiscardDeadLetter(ctx, db, consumer, partition, offset)
}

// DiscardDeadLetter is the function [DiscardDeadLetter] in a schema.
func (in In) DiscardDeadLetter(ctx context.Context, db unilog.Execer, consumer string, partition int, offset int64) error {
	tag, err := db.Exec(ctx, unilog.Schema(in).SQL(sqlDiscard), consumer, partition, offset)
	if err != nil {
		return fmt.Errorf("discard a dead letter: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return ErrNoDeadLetter
	}
	return nil
}
