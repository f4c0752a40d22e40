package reader

import (
	"context"
	"fmt"

	"github.com/rocketrides/unilog"
)

// CheckRun is for an owner that does not ask for every entry, so that those that were
// rejected in a row are not side by side. It returns a [RunError] if as many as [Park]
// bears were parked before an entry from an offset on, and not discarded.
func CheckRun(ctx context.Context, db unilog.Execer, schema unilog.Schema, consumer string, e unilog.Entry, since int64, why error) error {
	tag, err := db.Exec(ctx, schema.SQL(sqlRun), consumer, e.Partition, since, e.Offset, mostInARow)
	if err != nil {
		return fmt.Errorf("count the rejected records: %w", err)
	}
	if tag.RowsAffected() > 0 {
		return &RunError{why}
	}
	return nil
}

// Index: dead_letters_pkey.
const sqlRun = `
SELECT FROM unilog.dead_letters
WHERE consumer = $1 AND partition = $2 AND "offset" >= $3 AND "offset" < $4 AND discarded_at IS NULL
HAVING count(*) >= $5::bigint`
