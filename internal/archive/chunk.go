package archive

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/postgres"
)

// chunk is one table of the archive. Its name says which offsets it spans.
type chunk struct {
	partition   int
	First, Last int64
}

const chunkName = "log_records_p%d_%d_to_%d"

func (c chunk) String() string { return fmt.Sprintf(chunkName, c.partition, c.First, c.Last) }

// Chunks are those of one partition in the order of their offsets, which are
// consecutive.
type Chunks []chunk

// Start returns the first offset that the archive can still hold.
func (cs Chunks) Start() int64 {
	if len(cs) == 0 {
		return 1
	}
	return cs[0].First
}

// end returns the last offset that the archive has a place for.
func (cs Chunks) end() int64 {
	if len(cs) == 0 {
		return 0
	}
	return cs[len(cs)-1].Last
}

const (
	sqlChunks = `
SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid
WHERE i.inhparent = 'log_records'::regclass`

	// SQLLockHead locks a partition's head and reads its epoch. Index: log_partitions_pkey.
	SQLLockHead = `SELECT epoch FROM log_partitions WHERE partition = $1 FOR UPDATE`
)

// ListChunks returns the chunks of each partition.
func ListChunks(ctx context.Context, db postgres.Querier) (map[int]Chunks, error) {
	rows, err := db.Query(ctx, sqlChunks)
	if err != nil {
		return nil, fmt.Errorf("list the archive's chunks: %w", err)
	}
	all := map[int]Chunks{}
	var name string
	_, err = pgx.ForEachRow(rows, []any{&name}, func() error {
		var c chunk
		// A table of another name is somebody else's, and none of our business.
		if _, err := fmt.Sscanf(name, chunkName, &c.partition, &c.First, &c.Last); err == nil {
			all[c.partition] = append(all[c.partition], c)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the archive's chunks: %w", err)
	}
	for _, cs := range all {
		slices.SortFunc(cs, func(a, b chunk) int { return cmp.Compare(a.First, b.First) })
	}
	return all, nil
}

// How long a change of the archive's tables waits for its lock. Whoever comes
// after it waits as long, the numbering too, so what is not urgent gives up
// soon.
const (
	lockPatience = "100ms"
	// LockPatienceUrgent is that of what cannot wait.
	LockPatienceUrgent = "3s" // less than CallTimeout
)

// add appends a chunk to those of a partition that is numbered up to an offset.
// Attaching, unlike CREATE TABLE … PARTITION OF, lets readers and writers of the
// archive go on.
func (cs *Chunks) add(ctx context.Context, db postgres.Beginner, term unilog.Term, partition int, numbered, records int64, patience string) error {
	first := max(cs.end(), numbered) + 1
	c := chunk{partition, first, first + records - 1}
	err := alter(ctx, db, term, patience,
		// The chunk belongs to the archive's owner, whichever of his users leads.
		`SELECT set_config('role', pg_get_userbyid(relowner), true) FROM pg_class WHERE oid = 'log_records'::regclass`,
		fmt.Sprintf(`CREATE TABLE %s (LIKE log_records INCLUDING ALL)`, c),
		fmt.Sprintf(`ALTER TABLE log_records ATTACH PARTITION %s FOR VALUES FROM (%d, %d) TO (%d, %d)`,
			c, c.partition, c.First, c.partition, c.Last+1))
	if err != nil {
		return fmt.Errorf("add an archive chunk: %w", err)
	}
	*cs = append(*cs, c)
	return nil
}

// EnsureRoom adds a chunk if there is no place for so many more records.
func (cs *Chunks) EnsureRoom(ctx context.Context, db postgres.Beginner, term unilog.Term, partition int, numbered, records, chunkRecords int64) error {
	for cs.end() < numbered+records {
		if err := cs.add(ctx, db, term, partition, numbered, chunkRecords, LockPatienceUrgent); err != nil {
			return err
		}
	}
	return nil
}

// AddAhead adds a chunk when the last one is half full. If the lock is held, it does
// nothing: there is still time to try again.
func (cs *Chunks) AddAhead(ctx context.Context, db postgres.Beginner, term unilog.Term, partition int, numbered, chunkRecords int64) error {
	if cs.end()-numbered > chunkRecords/2 {
		return nil
	}
	err := cs.add(ctx, db, term, partition, numbered, chunkRecords, lockPatience)
	if postgres.IsLockTimeout(err) {
		return nil
	}
	return err
}

// DropChunk drops a chunk, if this is still the leader.
func DropChunk(ctx context.Context, db postgres.Beginner, term unilog.Term, c chunk) error {
	if err := alter(ctx, db, term, lockPatience, fmt.Sprintf(`DROP TABLE %s`, c)); err != nil {
		return fmt.Errorf("drop an archive chunk: %w", err)
	}
	return nil
}

// alter changes the archive's tables, if this is still the leader.
func alter(ctx context.Context, db postgres.Beginner, term unilog.Term, patience string, statements ...string) error {
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		var epoch int64
		if err := tx.QueryRow(ctx, SQLLockHead, term.Partition).Scan(&epoch); err != nil {
			return err
		}
		if epoch != term.Epoch {
			return &unilog.FencedError{Partition: term.Partition, Epoch: term.Epoch, Newer: epoch}
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

// SQLLockHeads locks the heads of all partitions. Always in this order: two
// transactions that lock all heads would deadlock otherwise.
const SQLLockHeads = `SELECT FROM log_partitions ORDER BY partition FOR UPDATE`

// ChunkRecords is how many offsets a chunk of the archive spans.
const ChunkRecords = 1_000_000
