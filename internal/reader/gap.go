package reader

import (
	"context"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/archive"
)

// Fill returns entries from the archive, from the first one missing on, or none if
// there is no archive that has it: then the gap is narrowed to what nobody has.
func Fill(ctx context.Context, db *pgxpool.Pool, gap *unilog.GapError, limit int) (found []unilog.Entry, err error) {
	if db == nil {
		return nil, nil
	}
	for range 2 { // it may have been planned before the archive got the chunk
		if found, err = archive.Read(ctx, db, gap.Partition, gap.From-1, gap.To, limit); err != nil {
			return nil, err
		}
		if len(found) > 0 && found[0].Offset == gap.From {
			return found[:Consecutive(found)], nil
		}
	}
	if len(found) > 0 {
		gap.To = found[0].Offset - 1
	}
	return nil, nil
}

// Consecutive returns how many of the entries follow each other directly.
func Consecutive(entries []unilog.Entry) int {
	for i := 1; i < len(entries); i++ {
		if entries[i].Offset != entries[i-1].Offset+1 {
			return i
		}
	}
	return len(entries)
}
