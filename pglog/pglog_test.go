package pglog_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

func (w *world) term() unilog.Term {
	w.Helper()
	return unilog.Term{
		LogID: query[string](w, w.db, `SELECT log_id::text FROM log_partitions WHERE partition = 0`),
		Epoch: query[int64](w, w.db, `SELECT epoch FROM log_partitions WHERE partition = 0`),
	}
}

func (w *world) read(log *pglog.Log, after int64) []unilog.Entry {
	w.Helper()
	entries, err := log.Read(w.ctx, 0, unilog.Cursor{Offset: after}, 1000, 0)
	w.must(err)
	return entries
}

func TestNothingToLose(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.stage(1, 5)
	w.drain(w.streamer())
	w.must(w.log.Trim(w.ctx, 0, 5))
	w.must(w.log.Reset(w.ctx, w.term(), 3))
	if got := w.read(w.log, 0); len(got) != 5 || got[0].Offset != 1 {
		t.Errorf("after a trim and a reset %v can be read, want all five", got)
	}
	if head, err := w.log.Head(w.ctx, 0); err != nil || head.Offset != 5 || head.Partitions != 1 {
		t.Errorf("after a trim and a reset: head %+v, %v", head, err)
	}
}

// TestAppendAsksNobody appends without a database.
func TestAppendAsksNobody(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.stage(1, 5)
	w.drain(w.streamer())
	entries, term := w.read(w.log, 0), w.term()
	pool := w.reader()
	log := w.open(pool)
	head, err := log.Claim(w.ctx, term)
	if err != nil || head != 5 {
		t.Fatalf("claim: head %d, %v", head, err)
	}
	pool.Close()
	if head, err = log.Append(w.ctx, term, entries); !errors.Is(err, unilog.ErrAlreadyAppended) || head != 5 {
		t.Errorf("what another process appended: head %d, %v", head, err)
	}
	next := entries[4]
	next.Offset = 6
	for _, want := range []error{nil, unilog.ErrAlreadyAppended} {
		if head, err = log.Append(w.ctx, term, []unilog.Entry{next}); !errors.Is(err, want) || head != 6 {
			t.Errorf("the next entry: head %d, %v, want %v", head, err, want)
		}
	}
	term.Epoch++
	if _, err = log.Append(w.ctx, term, []unilog.Entry{next}); err == nil {
		t.Error("without a database, it appends for a term that it does not know")
	}
}

// TestClaimIsNotAheadOfItsStreamer numbers entries that are not appended yet, as
// the leader of the first partition does for all.
func TestClaimIsNotAheadOfItsStreamer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	crash := func(cfg *streamer.Config) { cfg.Hooks.AfterNumber = unilog.SimulateFailures(1, 0) }
	w.stage(1, 5)
	if _, err := w.streamer(crash).RunOnce(w.ctx); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatal(err)
	}
	if head, err := w.log.Claim(w.ctx, w.term()); err != nil || head != 0 {
		t.Errorf("claim before anything is appended: head %d, %v", head, err)
	}
	if got := w.read(w.log, 0); len(got) != 5 {
		t.Errorf("what is numbered can be read: %d of 5 entries", len(got))
	}
	w.drain(w.streamer())
	for name, log := range map[string]*pglog.Log{"this": w.log, "another": w.open(w.db)} {
		if head, err := log.Claim(w.ctx, w.term()); err != nil || head != 5 {
			t.Errorf("claim by %s process when all is appended: head %d, %v", name, head, err)
		}
	}
	// The database was restored to an earlier time.
	w.exec(`UPDATE log_partitions SET next_offset = 4, published_offset = 2`)
	if head, err := w.log.Claim(w.ctx, w.term()); err != nil || head != 3 {
		t.Errorf("claim in a restored database: head %d, %v, want what it has numbered", head, err)
	}
	w.exec(`UPDATE log_partitions SET next_offset = 6, published_offset = 5`)
}

func TestClaimOfATermThatTheDatabaseDoesNotKnow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	term := w.term()
	term.Epoch = 7
	if _, err := w.log.Claim(w.ctx, term); err == nil {
		t.Error("a term was claimed that the database has not begun")
	}
	term.Partition = 9
	if _, err := w.log.Claim(w.ctx, term); err == nil {
		t.Error("a partition was claimed that the database does not have")
	}
	if head, err := w.log.Head(w.ctx, 9); err != nil || head != (unilog.Head{}) {
		t.Errorf("the head of a partition that is not there: %+v, %v", head, err)
	}
}

func TestOpenWithoutTheLog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, pool := range map[string]func() error{
		"a database without the log": func() error { _, err := pglog.Open(w.ctx, w.elsewhere()); return err },
		"a closed pool": func() error {
			pool := testenv.Database(t, "source", nil)
			pool.Close()
			_, err := pglog.Open(w.ctx, pool)
			return err
		},
	} {
		if pool() == nil {
			t.Errorf("%s opened", name)
		}
	}
}

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
