package switchlog

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

// Index: redactions_pkey.
const sqlRedacted = `
SELECT "offset" FROM unilog.redactions WHERE partition = $1 AND "offset" >= $2 AND "offset" <= $3 ORDER BY "offset"`

// claim claims the new log, and empties what it has if that is from before a redaction:
// an earlier copy has made it, or it is where the log once was.
func (p partition) claim(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, to unilog.Log, term unilog.Term) (head int64, err error) {
	if head, err = to.Claim(ctx, term); err != nil {
		return 0, fmt.Errorf("switchlog: claim the new log: %w", err)
	}
	stale, err := p.hasErased(ctx, db, schema, to, head)
	if err != nil || !stale {
		return head, err
	}
	if err := to.Reset(ctx, term, 0); err != nil {
		return 0, fmt.Errorf("switchlog: reset the new log: %w", err)
	}
	return 0, nil
}

// hasErased says whether a log still has what was redacted, or dropped since.
func (p partition) hasErased(ctx context.Context, db *pgxpool.Pool, schema unilog.Schema, log unilog.Log, head int64) (bool, error) {
	if head == 0 {
		return false, nil
	}
	first := int64(1)
	entries, err := log.Read(ctx, p.Partition, unilog.Cursor{}, 1, 0)
	switch {
	case err != nil && !errors.Is(err, unilog.ErrUnreadable):
		return false, fmt.Errorf("switchlog: read the new log: %w", err)
	case err == nil && len(entries) == 0:
		return false, nil
	case err == nil:
		first = entries[0].Offset
	}
	rows, _ := db.Query(ctx, schema.SQL(sqlRedacted), p.Partition, first, head)
	redacted, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return false, fmt.Errorf("switchlog: see what was redacted: %w", err)
	}
	for _, offset := range redacted {
		got, err := log.Read(ctx, p.Partition, unilog.Cursor{Offset: offset - 1}, 1, 0)
		if errors.Is(err, unilog.ErrUnreadable) {
			return true, nil // nobody can see what it has
		}
		if err != nil {
			return false, fmt.Errorf("switchlog: read the new log: %w", err)
		}
		if len(got) == 0 || got[0].Offset != offset {
			continue
		}
		want, err := archive.Read(ctx, db, schema, p.Partition, offset-1, offset, 1)
		if damaged := new(archive.DamagedError); err != nil && !errors.As(err, &damaged) {
			return false, fmt.Errorf("switchlog: %w", err)
		}
		got[0].Position = ""
		if len(want) == 0 || !reflect.DeepEqual(got[0], want[0]) {
			return true, nil
		}
	}
	return false, nil
}
