package reader

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// Index: dead_letters_pkey.
const (
	sqlRequeued = `
SELECT "offset", staged_at, action, object, key, data::text, headers::text, body, coalesce(content_type, '')
FROM unilog.dead_letters
WHERE consumer = $1 AND partition = $2 AND requeued_at IS NOT NULL AND discarded_at IS NULL
ORDER BY "offset"
LIMIT $3`

	sqlRejectAgain = `
UPDATE unilog.dead_letters SET error = $4, parked_at = clock_timestamp(), requeued_at = NULL
WHERE consumer = $1 AND partition = $2 AND "offset" = $3`
)

// RequeuedMost is how many dead letters [Requeued] returns at the most.
const RequeuedMost = 100

// ErrNotAsked is why a dead letter is not taken again that was parked when the owner asked
// for more kinds of records.
var ErrNotAsked = errors.New("Config.Only does not ask for records of its kind")

// Requeued returns the first dead letters of a partition that a person has asked to be
// given to the handler again.
func Requeued(ctx context.Context, db postgres.Querier, schema unilog.Schema, consumer string, partition int) ([]unilog.Entry, error) {
	rows, err := db.Query(ctx, schema.SQL(sqlRequeued), consumer, partition, RequeuedMost)
	if err != nil {
		return nil, fmt.Errorf("look for requeued records: %w", postgres.Explain(err))
	}
	entries, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (unilog.Entry, error) {
		e := unilog.Entry{Partition: partition}
		var data, headers, body []byte
		var contentType string
		err := row.Scan(&e.Offset, &e.StagedAt, &e.Action, &e.Object, &e.Key, &data, &headers, &body, &contentType)
		if err != nil {
			return e, err
		}
		if contentType != "" {
			data = body
		}
		e.SetPayload(data, contentType)
		e.Headers, err = unilog.DecodeHeaders(headers)
		return e, err
	})
	if err != nil {
		return nil, fmt.Errorf("look for requeued records: %w", postgres.Explain(err))
	}
	return entries, nil
}

// RejectAgain leaves a dead letter that was rejected again where it is, with the new reason.
func RejectAgain(ctx context.Context, db unilog.Execer, schema unilog.Schema, consumer string, partition int, offset int64, why error) error {
	if _, err := db.Exec(ctx, schema.SQL(sqlRejectAgain), consumer, partition, offset, storable(why)); err != nil {
		return fmt.Errorf("note that a record was rejected again: %w", postgres.Explain(err))
	}
	return nil
}
