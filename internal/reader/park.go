package reader

import (
	"context"
	"fmt"
	"strings"

	"github.com/rocketrides/unilog"
)

// Park puts an entry into dead_letters, with why it was rejected. A second time, it
// replaces the reason.
func Park(ctx context.Context, db unilog.Execer, schema unilog.Schema, consumer string, e unilog.Entry, why error) error {
	headers, err := unilog.EncodeHeaders(e.Headers)
	if err != nil {
		return err
	}
	if headers == nil {
		headers = []byte("{}")
	}
	_, err = db.Exec(ctx, schema.SQL(sqlPark), consumer, e.Partition, e.Offset, e.StagedAt, e.Action, e.Object, e.Key,
		string(e.Data), string(headers), strings.ReplaceAll(strings.ToValidUTF8(why.Error(), "\uFFFD"), "\x00", "\uFFFD"))
	if err != nil {
		return fmt.Errorf("park a rejected record: %w", err)
	}
	return nil
}

const sqlPark = `
INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, $9::text::jsonb, $10)
ON CONFLICT (consumer, partition, "offset") DO UPDATE SET error = excluded.error, parked_at = clock_timestamp()`
