package unilog

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
)

// chunk is one table of the archive. Its name says which offsets it spans.
type chunk struct {
	partition   int
	first, last int64
}

const chunkName = "log_records_p%d_%d_to_%d"

func (c chunk) String() string { return fmt.Sprintf(chunkName, c.partition, c.first, c.last) }

// chunks are those of one partition in the order of their offsets, which are
// consecutive.
type chunks []chunk

// start returns the first offset that the archive can still hold.
func (cs chunks) start() int64 {
	if len(cs) == 0 {
		return 1
	}
	return cs[0].first
}

// end returns the last offset that the archive has a place for.
func (cs chunks) end() int64 {
	if len(cs) == 0 {
		return 0
	}
	return cs[len(cs)-1].last
}

const (
	sqlChunks = `
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'log_records'::regclass`

	// Index: log_partitions_pkey.
	sqlLockHead = `SELECT epoch FROM log_partitions WHERE partition = $1 FOR UPDATE`
)

func listChunks(ctx context.Context, db querier, partition int) (chunks, error) {
	rows, err := db.Query(ctx, sqlChunks)
	if err != nil {
		return nil, fmt.Errorf("list the archive's chunks: %w", err)
	}
	var cs chunks
	var name string
	_, err = pgx.ForEachRow(rows, []any{&name}, func() error {
		var c chunk
		// A table of another name is somebody else's, and none of our business.
		_, err := fmt.Sscanf(name, chunkName, &c.partition, &c.first, &c.last)
		if err == nil && c.partition == partition {
			cs = append(cs, c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the archive's chunks: %w", err)
	}
	slices.SortFunc(cs, func(a, b chunk) int { return cmp.Compare(a.first, b.first) })
	return cs, nil
}

// How long a change of the archive's tables waits for its lock. Whoever comes
// after it waits as long, the numbering too, so what is not urgent gives up
// soon.
const (
	lockPatience       = "100ms"
	lockPatienceUrgent = "3s" // less than callTimeout
)

// addChunk appends a chunk. Attaching, unlike CREATE TABLE … PARTITION OF, lets
// readers and writers of the archive go on.
func (l *leadership) addChunk(ctx context.Context, records int64, patience string) error {
	first := max(l.chunks.end(), l.numbered) + 1
	c := chunk{l.term.Partition, first, first + records - 1}
	err := l.alter(ctx, patience,
		// The chunk belongs to the archive's owner, whichever of his users leads.
		`SELECT set_config('role', pg_get_userbyid(relowner), true) FROM pg_class WHERE oid = 'log_records'::regclass`,
		fmt.Sprintf(`CREATE TABLE %s (LIKE log_records INCLUDING ALL)`, c),
		fmt.Sprintf(`ALTER TABLE log_records ATTACH PARTITION %s FOR VALUES FROM (%d, %d) TO (%d, %d)`,
			c, c.partition, c.first, c.partition, c.last+1))
	if err != nil {
		return fmt.Errorf("add an archive chunk: %w", err)
	}
	l.chunks = append(l.chunks, c)
	return nil
}

func (l *leadership) dropChunk(ctx context.Context, c chunk) error {
	if err := l.alter(ctx, lockPatience, fmt.Sprintf(`DROP TABLE %s`, c)); err != nil {
		return fmt.Errorf("drop an archive chunk: %w", err)
	}
	return nil
}

// alter changes the archive's tables, if this is still the leader.
func (l *leadership) alter(ctx context.Context, patience string, statements ...string) error {
	return pgx.BeginFunc(ctx, l.conn, func(tx pgx.Tx) error {
		var epoch int64
		if err := tx.QueryRow(ctx, sqlLockHead, l.term.Partition).Scan(&epoch); err != nil {
			return err
		}
		if epoch != l.term.Epoch {
			return &FencedError{Partition: l.term.Partition, Epoch: l.term.Epoch, Newer: epoch}
		}
		_, err := tx.Exec(ctx, `SET LOCAL lock_timeout = '`+patience+`'`)
		for _, sql := range statements {
			if err == nil {
				_, err = tx.Exec(ctx, sql)
			}
		}
		return err
	})
}

// ensureRoom adds a chunk if the archive has no place for so many more records.
func (l *leadership) ensureRoom(ctx context.Context, records int, chunkRecords int64) error {
	for l.chunks.end() < l.numbered+int64(records) {
		if err := l.addChunk(ctx, chunkRecords, lockPatienceUrgent); err != nil {
			return err
		}
	}
	return nil
}
