package pglog_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	fixtures "github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/pglog"
	"github.com/rocketrides/unilog/streamer"
)

func (w *world) term() unilog.Term {
	w.Helper()
	return unilog.Term{
		LogID: query[string](w, w.db, `SELECT log_id::text FROM unilog.log`),
		Epoch: query[int64](w, w.db, `SELECT epoch FROM unilog.partitions WHERE partition = 0`),
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

// number numbers records, without a streamer, and returns their entries.
func (w *world) number(tx pgx.Tx, first, last int) (entries []unilog.Entry) {
	w.Helper()
	for n := first; n <= last; n++ {
		entries = append(entries, unilog.Entry{Record: record(n), Offset: int64(n), StagedAt: time.UnixMicro(int64(n)).UTC()})
	}
	_, err := tx.Exec(w.ctx, `UPDATE unilog.partitions SET next_offset = $1 WHERE partition = 0`, last+1)
	w.must(err)
	w.must(fixtures.Archive(w.ctx, tx, entries))
	return entries
}

func (w *world) begin() pgx.Tx {
	w.Helper()
	tx, err := w.db.Begin(w.ctx)
	w.must(err)
	w.Cleanup(func() { _ = tx.Rollback(context.Background()) })
	return tx
}

// TestReadersMeetOnlyWhatIsPublished numbers entries in one batch and publishes them
// one by one. Of what was committed, and may be lost yet, another process sees nothing.
func TestReadersMeetOnlyWhatIsPublished(t *testing.T) {
	t.Parallel()
	w := setup(t)
	reader := w.open(w.reader())
	tx := w.begin()
	entries := w.number(tx, 1, 3)
	w.must(tx.Commit(w.ctx))
	for n := range entries {
		read := w.waiting(reader, int64(n))
		if head, err := reader.Head(w.ctx, 0); err != nil || head.Offset != int64(n) {
			t.Errorf("with %d of 3 entries published, the head is %+v, %v", n, head, err)
		}
		if got := w.read(reader, 0); len(got) != n {
			t.Errorf("with %d of 3 entries published, a reader meets %v", n, got)
		}
		if head, err := w.log.Append(w.ctx, w.term(), entries[n:n+1]); err != nil || head != int64(n+1) {
			t.Fatalf("append entry %d: head %d, %v", n+1, head, err)
		}
		w.want(read(), int64(n+1), int64(n+1))
	}
	w.want(w.read(reader, 0), 1, 3)
}

// TestProcessesAgree appends by several processes of a term.
func TestProcessesAgree(t *testing.T) {
	t.Parallel()
	w := setup(t)
	tx := w.begin()
	entries, term, another := w.number(tx, 1, 6), w.term(), w.open(w.db)
	w.must(tx.Commit(w.ctx))
	append := func(log *pglog.Log, first, last int64, want error, wantHead int64) {
		t.Helper()
		if head, err := log.Append(w.ctx, term, entries[first-1:last]); !errors.Is(err, want) || head != wantHead {
			t.Errorf("%d to %d: head %d, %v; want head %d, %v", first, last, head, err, wantHead, want)
		}
	}
	append(w.log, 1, 3, nil, 3)
	append(another, 1, 3, unilog.ErrAlreadyAppended, 3)
	append(another, 5, 6, unilog.ErrBehind, 3)
	append(another, 4, 5, nil, 5)
	append(w.log, 4, 5, unilog.ErrAlreadyAppended, 5)
	if head, err := another.Claim(w.ctx, term); err != nil || head != 5 {
		t.Errorf("claim: head %d, %v", head, err)
	}
	// Commits were lost that nobody waited for: it is published again.
	w.exec(`UPDATE unilog.partitions SET published_offset = 2`)
	append(w.log, 6, 6, unilog.ErrBehind, 2)
	append(w.log, 3, 6, nil, 6)
	// What was never numbered is not published.
	beyond := entries[5]
	beyond.Offset = 7
	if head, err := w.log.Append(w.ctx, term, []unilog.Entry{beyond}); err == nil {
		t.Errorf("it published what is not numbered, up to offset %d", head)
	}
	// Another streamer leads.
	w.exec(`UPDATE unilog.partitions SET epoch = epoch + 1, published_offset = 5`)
	var fenced *unilog.FencedError
	if _, err := w.log.Append(w.ctx, term, entries[5:]); !errors.As(err, &fenced) || fenced.Newer != term.Epoch+1 {
		t.Errorf("append by the leader before: %v", err)
	}
}

// TestAppendWaitsForNoDisk sees that a commit which loses nothing does not wait.
func TestAppendWaitsForNoDisk(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`CREATE TABLE seen (synchronous_commit text)`)
	w.exec(`CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END $$`)
	w.exec(`CREATE CONSTRAINT TRIGGER note AFTER UPDATE OF published_offset ON unilog.partitions DEFERRABLE INITIALLY DEFERRED
		FOR EACH ROW EXECUTE FUNCTION note()`) // at the commit
	tx := w.begin()
	entries := w.number(tx, 1, 1)
	w.must(tx.Commit(w.ctx))
	_, err := w.log.Append(w.ctx, w.term(), entries)
	w.must(err)
	if got := query[string](w, w.db, `SELECT string_agg(synchronous_commit, ' ') FROM seen`); got != "off" {
		t.Errorf("when an append was committed, synchronous_commit was %s", got)
	}
}

// TestClaimIsNotAheadOfItsStreamer numbers entries that are not appended yet.
func TestClaimIsNotAheadOfItsStreamer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	crash := func(cfg *streamer.Config) { cfg.Hooks.AfterNumber = unilog.SimulateFailures(1, 0) }
	w.stage(1, 5)
	if _, err := fixtures.Bare(t, w.db).Patiently(w.streamer(crash).RunOnce); !errors.Is(err, unilog.ErrSimulated) {
		t.Fatal(err)
	}
	if head, err := w.log.Claim(w.ctx, w.term()); err != nil || head != 0 {
		t.Errorf("claim before anything is appended: head %d, %v", head, err)
	}
	if got := w.read(w.log, 0); len(got) != 0 {
		t.Errorf("of what is numbered and not published, %d entries can be read", len(got))
	}
	w.drain(w.streamer())
	for name, log := range map[string]*pglog.Log{"this": w.log, "another": w.open(w.db)} {
		if head, err := log.Claim(w.ctx, w.term()); err != nil || head != 5 {
			t.Errorf("claim by %s process when all is appended: head %d, %v", name, head, err)
		}
	}
}

// TestLogOfASchema has two logs in one database.
func TestLogOfASchema(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const schema = unilog.Schema("user") // a word of SQL
	w.must(migration.In(schema).Up(w.ctx, w.db, migration.Log))
	other, err := pglog.Open(w.ctx, w.db, schema)
	w.must(err)
	t.Cleanup(other.Close)
	pglog.WithoutClock(other)
	read := w.waiting(other, 0)
	await.True(t, "a listener", func() bool {
		return query[bool](w, w.db, `SELECT EXISTS (SELECT FROM pg_stat_activity
			WHERE datname = current_database() AND query = 'LISTEN "user:published"' AND state = 'idle')`)
	})
	tx := w.begin()
	w.must(fixtures.Archive(w.ctx, tx, []unilog.Entry{{Record: record(1), Offset: 1}}))
	w.must(tx.Commit(w.ctx))
	w.exec(schema.SQL(`INSERT INTO unilog.batches SELECT * FROM `) + `unilog.batches`)
	w.exec(schema.SQL(`UPDATE unilog.partitions SET next_offset = 2`))
	term := unilog.Term{LogID: query[string](w, w.db, schema.SQL(`SELECT log_id::text FROM unilog.log`))}
	if head, err := other.Append(w.ctx, term, []unilog.Entry{{Record: record(1), Offset: 1}}); err != nil || head != 1 {
		t.Fatalf("append: head %d, %v", head, err)
	}
	w.want(read(), 1, 1)
	if head, err := w.log.Head(w.ctx, 0); err != nil || head.Offset != 0 {
		t.Errorf("the other log's head is %+v, %v", head, err)
	}
	if _, err := pglog.Open(w.ctx, w.db, "No"); err == nil || !strings.Contains(err.Error(), "the schema's name") {
		t.Errorf("a log in a schema that cannot be: %v", err)
	}
	if _, err := pglog.Open(w.ctx, w.db, "nothing_there"); err == nil || !strings.Contains(err.Error(), "is it migrated?") {
		t.Errorf("a log in a schema that is not there: %v", err)
	}
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
		"a database without the log": func() error { _, err := pglog.Open(w.ctx, w.elsewhere(), ""); return err },
		"a closed pool": func() error {
			pool := testenv.Database(t, "source", nil)
			pool.Close()
			_, err := pglog.Open(w.ctx, pool, "")
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
			return migration.Up(ctx, pool, migration.Log)
		})
		log, err := pglog.Open(t.Context(), db, "")
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
	_, err := n.db.Exec(ctx, `UPDATE unilog.log SET log_id = $1 WHERE NOT EXISTS (SELECT FROM unilog.partitions WHERE epoch > 0)`, term.LogID)
	if err == nil {
		_, err = n.db.Exec(ctx, `
			INSERT INTO unilog.partitions AS p (partition, epoch) SELECT $1, $3 FROM unilog.log WHERE log_id = $2
			ON CONFLICT (partition) DO UPDATE SET epoch = excluded.epoch WHERE p.epoch < excluded.epoch`,
			term.Partition, term.LogID, term.Epoch)
	}
	if err == nil && term.Partitions > 0 {
		_, err = n.db.Exec(ctx, `DELETE FROM unilog.partitions WHERE partition >= $1`, term.Partitions)
	}
	if err == nil && term.Partitions > 0 {
		_, err = n.db.Exec(ctx, `
			INSERT INTO unilog.partitions (partition) SELECT generate_series(1, $1 - 1)
			ON CONFLICT (partition) DO NOTHING`, term.Partitions)
	}
	return err
}

// number does nothing if the entries are not the next ones, as the streamer would
// never give them these offsets.
func (n *numbering) number(ctx context.Context, term unilog.Term, entries []unilog.Entry) error {
	return pgx.BeginFunc(ctx, n.db, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
			UPDATE unilog.partitions AS p SET next_offset = next_offset + $5
			FROM unilog.log AS l
			WHERE p.partition = $1 AND l.log_id = $2 AND p.epoch = $3 AND p.next_offset = $4`,
			term.Partition, term.LogID, term.Epoch, entries[0].Offset, len(entries))
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		return fixtures.Archive(ctx, tx, entries)
	})
}
