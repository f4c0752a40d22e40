package pglog_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/pglog"
)

// TestConformance runs the suite, but for what it asks of a log that could lose
// its entries; TestNothingToLose has that.
func TestConformance(t *testing.T) {
	t.Parallel()
	logtest.Run(t, func(t *testing.T) logtest.Harness {
		db := testenv.Database(t, "conformance", func(ctx context.Context, pool *pgxpool.Pool) error {
			if err := migration.Up(ctx, pool, migration.Log); err != nil {
				return err
			}
			_, err := pool.Exec(ctx, `CREATE TABLE log_records_all PARTITION OF log_records DEFAULT`)
			return err
		})
		log, err := pglog.Open(t.Context(), db)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(log.Close)
		return logtest.Harness{Log: &numbering{log, db}}
	})
}

// numbering does before each call what the streamer has done by then: it
// announces the term to the database, and numbers the entries.
type numbering struct {
	*pglog.Log
	db *pgxpool.Pool
}

func (n *numbering) Claim(ctx context.Context, term unilog.Term) (int64, error) {
	if err := n.begin(ctx, term); err != nil {
		return 0, err
	}
	return n.Log.Claim(ctx, term)
}

func (n *numbering) Append(ctx context.Context, term unilog.Term, entries []unilog.Entry) (int64, error) {
	err := n.begin(ctx, term)
	if err == nil {
		err = n.number(ctx, term, entries)
	}
	if err != nil {
		return 0, err
	}
	return n.Log.Append(ctx, term, entries)
}

func (n *numbering) begin(ctx context.Context, term unilog.Term) error {
	_, err := n.db.Exec(ctx, `
		INSERT INTO log_partitions AS p (partition, log_id, epoch) VALUES ($1, $2, $3)
		ON CONFLICT (partition) DO UPDATE SET log_id = excluded.log_id, epoch = excluded.epoch
		WHERE p.epoch = 0 OR p.log_id = excluded.log_id AND p.epoch < excluded.epoch`,
		term.Partition, term.LogID, term.Epoch)
	if err == nil && term.Partitions > 0 {
		_, err = n.db.Exec(ctx, `DELETE FROM log_partitions WHERE partition >= $1`, term.Partitions)
	}
	if err == nil && term.Partitions > 0 {
		_, err = n.db.Exec(ctx, `
			INSERT INTO log_partitions (partition) SELECT generate_series(1, $1 - 1)
			ON CONFLICT (partition) DO NOTHING`, term.Partitions)
	}
	return err
}

// number does nothing if the entries are not the next ones, as the streamer would
// never give them these offsets.
func (n *numbering) number(ctx context.Context, term unilog.Term, entries []unilog.Entry) error {
	return pgx.BeginFunc(ctx, n.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE log_partitions SET next_offset = next_offset + $5
			WHERE partition = $1 AND log_id = $2 AND epoch = $3 AND next_offset = $4`,
			term.Partition, term.LogID, term.Epoch, entries[0].Offset, len(entries))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		var batch pgx.Batch
		for _, e := range entries {
			headers, err := unilog.EncodeHeaders(e.Headers)
			if err != nil {
				return err
			}
			batch.Queue(`
				INSERT INTO log_records (partition, "offset", size, staged_at, action, object, key, data, headers)
				VALUES ($1, $2, $3, $4, $5, $6, $7, $8::text::jsonb, coalesce($9::text::jsonb, '{}'))`,
				term.Partition, e.Offset, len(e.Data), e.StagedAt, e.Action, e.Object, e.Key, string(e.Data), headers)
		}
		batch.Queue(`SELECT pg_notify('log_records', $1::int::text)`, term.Partition)
		return tx.SendBatch(ctx, &batch).Close()
	})
}
