package plainrelay

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// What the relay's users need of its table.
const (
	SQLTable = `
CREATE TABLE plain_outbox (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    type       text NOT NULL,
    key        text NOT NULL,
    payload    jsonb NOT NULL
)`
	SQLDone   = `SELECT NOT EXISTS (SELECT FROM plain_outbox)`
	SQLVacuum = `VACUUM plain_outbox`
)

const (
	sqlStage = `
INSERT INTO plain_outbox (type, key, payload)
SELECT type, key, payload::jsonb
FROM unnest($1::text[], $2::text[], $3::text[])
    WITH ORDINALITY AS r (type, key, payload, n)
ORDER BY n`

	sqlTake = `
SELECT id, type, key, payload::text
FROM plain_outbox
ORDER BY id
LIMIT $1
FOR UPDATE SKIP LOCKED`

	sqlDelete = `DELETE FROM plain_outbox WHERE id = ANY ($1)`
)

// Record is what is staged. Payload is JSON.
type Record struct{ Type, Key, Payload string }

// Stage writes records by one statement of the caller's transaction.
func Stage(ctx context.Context, tx interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
}, records ...Record,
) error {
	types, keys, payloads := make([]string, len(records)), make([]string, len(records)), make([]string, len(records))
	for i, r := range records {
		types[i], keys[i], payloads[i] = r.Type, r.Key, r.Payload
	}
	_, err := tx.Exec(ctx, sqlStage, types, keys, payloads)
	return err
}
