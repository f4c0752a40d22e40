package reader

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// mostInARow is how many records in a row are parked at the most.
const mostInARow = 20

// RunError says that an entry was not parked, since those before it are: it is not the
// records that are wrong.
type RunError struct{ Err error }

func (e *RunError) Error() string {
	return fmt.Sprintf("%v (and the %d records before it, so that the records are hardly to blame: nothing more is parked. "+
		"Mend what rejects them and retry those that are parked; or discard them, if they are bad indeed)", e.Err, mostInARow)
}

func (e *RunError) Unwrap() error { return e.Err }

// Skip is why an entry is parked that a person does not want to be applied. There is no
// bound to how many in a row.
type Skip struct{ Reason string }

func (e *Skip) Error() string { return "skipped: " + e.Reason }

func storable(why error) string {
	return strings.ReplaceAll(strings.ToValidUTF8(why.Error(), "\uFFFD"), "\x00", "\uFFFD")
}

// Park puts an entry into dead_letters, with why it was rejected. A second time, it
// replaces the reason. It returns a [RunError] if all that directly precede the entry
// are there, and were not discarded.
func Park(ctx context.Context, db unilog.Execer, schema unilog.Schema, consumer string, e unilog.Entry, why error) error {
	headers, err := unilog.EncodeHeaders(e.Headers)
	if err != nil {
		return err
	}
	if headers == nil {
		headers = []byte("{}")
	}
	most := mostInARow
	if by := new(Skip); errors.As(why, &by) {
		most = math.MaxInt32
	}
	var data, contentType *string
	var body []byte
	if text := string(e.Data); e.ContentType == "" {
		data = &text
	} else {
		body, contentType = append([]byte{}, e.Body...), &e.ContentType
	}
	tag, err := db.Exec(ctx, schema.SQL(sqlPark), consumer, e.Partition, e.Offset, e.StagedAt, e.Action, e.Object, e.Key,
		data, string(headers), body, contentType, storable(why), most)
	if err != nil {
		return fmt.Errorf("park a rejected record: %w", postgres.Explain(err))
	}
	if tag.RowsAffected() == 0 {
		return &RunError{why}
	}
	return nil
}

// Index: dead_letters_pkey.
const sqlPark = `
INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, body, content_type, error)
SELECT $1::text, $2::integer, $3::bigint, $4::timestamptz, $5::text, $6::text, $7::text, $8::text::jsonb, $9::text::jsonb, $10::bytea, $11::text, $12::text
WHERE $13::bigint > (
    SELECT count(*) FROM unilog.dead_letters
    WHERE consumer = $1 AND partition = $2 AND "offset" >= $3 - $13 AND "offset" < $3 AND discarded_at IS NULL
)
ON CONFLICT (consumer, partition, "offset") DO UPDATE SET error = excluded.error, parked_at = clock_timestamp()`
