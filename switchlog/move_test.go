package switchlog_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	fixtures "github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/switchlog"
)

// TestLogMovesWhileRecordsFlow moves a log there, back, and there again, under
// streamers and consumers that fail now and then.
func TestLogMovesWhileRecordsFlow(t *testing.T) {
	t.Parallel()
	w := setup(t)
	staged, stopWriter := w.runWriter()
	stopOne, stopTwo := w.runStreamer(), w.runStreamer()
	stopSum, stopCount := w.runConsumer("sum"), w.runConsumer("count")
	applied := func(name string) int64 {
		return query[int64](w, `SELECT count(*) FROM applied WHERE name = $1`, name)
	}
	flows := func() {
		w.Helper()
		now := staged.Load()
		await.True(w, "both consumers to go on", func() bool { return applied("sum") > now && applied("count") > now })
	}
	flows()
	for i, move := range []func(){
		func() {
			next := w.engine("b")
			await.True(w, "what is published to be recorded", func() bool {
				return query[int64](w, `SELECT published_offset FROM unilog.partitions`) > 0
			})
			w.copyAll(next)
			if n, err := switchlog.Compare(w.ctx, w.db, "", next); err != nil || n == 0 {
				t.Errorf("compared %d: %v", n, err)
			}
			_, err := switchlog.Move(w.ctx, w.db, "", "b")
			w.must(err)
		},
		func() {
			_, err := switchlog.Undo(w.ctx, w.db, "")
			w.must(err)
		},
		func() { // without a copy: what is missing comes from the archive
			_, err := switchlog.Move(w.ctx, w.db, "", "b")
			w.must(err)
			_, err = switchlog.Finish(w.ctx, w.db, "")
			w.must(err)
		},
	} {
		move()
		want := []string{"b", "", "b"}[i]
		moved := w.heads(want)[0]
		await.True(w, "the log to be written in its new place", func() bool { return w.heads(want)[0] > moved+10 })
		flows()
		generation := fmt.Sprintf("%d/%%", i+1)
		await.Equal(w, "the consumers that read it there", 2, func() int {
			return query[int](w, `SELECT count(*) FROM unilog.checkpoints WHERE position LIKE $1`, generation)
		})
	}
	stopWriter()
	records := int(staged.Load())
	await.Equal(w, "records applied by both", int64(2*records), func() int64 { return applied("sum") + applied("count") })
	for _, stop := range []func(){stopOne, stopTwo, stopSum, stopCount} {
		stop()
	}
	w.checkApplied("sum", records)
	w.checkApplied("count", records)
	if heads := w.heads("", "b"); heads[0] >= heads[1] || heads[1] != int64(records) {
		t.Errorf("the old log is at offset %d and the new one at %d of %d", heads[0], heads[1], records)
	}
}

func TestMovesTakeTurns(t *testing.T) {
	t.Parallel()
	w := setup(t)
	if _, err := switchlog.Undo(w.ctx, w.db, ""); !errors.Is(err, switchlog.ErrFinal) {
		t.Errorf("undo of nothing: %v", err)
	}
	generation, err := switchlog.Move(w.ctx, w.db, "", "b")
	w.must(err)
	if generation != 1 {
		t.Errorf("generation %d", generation)
	}
	if _, err := switchlog.Move(w.ctx, w.db, "", "c"); err == nil {
		t.Error("a second move before the first one is finished")
	}
	at, err := switchlog.Undo(w.ctx, w.db, "")
	w.must(err)
	if at.URL != "" || at.Generation != 2 {
		t.Errorf("undone to %+v", at)
	}
	if _, err := switchlog.Undo(w.ctx, w.db, ""); !errors.Is(err, switchlog.ErrFinal) {
		t.Errorf("undo of an undo: %v", err)
	}
	if _, err := switchlog.Finish(w.ctx, w.db, ""); !errors.Is(err, switchlog.ErrFinal) {
		t.Errorf("finish where nothing is to be finished: %v", err)
	}
}

// TestCompareOfAShortCopy compares a copy with fewer entries than are compared at most.
func TestCompareOfAShortCopy(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stop := w.runStreamer()
	for n := range 50 {
		w.stage(n + 1)
	}
	await.Equal(w, "the published offset", 50, func() int { return query[int](w, `SELECT published_offset FROM unilog.partitions`) })
	stop()
	next := w.engine("b")
	if n, err := switchlog.Copy(w.ctx, w.db, "", next, switchlog.Keep{Records: 10}); n != 10 || err != nil {
		t.Errorf("copied %d: %v", n, err)
	}
	if n, err := switchlog.Compare(w.ctx, w.db, "", next); n != 10 || err != nil {
		t.Errorf("compared %d: %v", n, err)
	}
}

// TestCopyRefusesALogThatIsAhead sees that a log that somebody else writes to is
// left alone.
func TestCopyRefusesALogThatIsAhead(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stop := w.runStreamer()
	w.stage(1)
	await.Equal(w, "the head", 1, func() int64 { return w.heads("")[0] })
	stop()
	next := w.engine("b")
	logID := query[string](w, `SELECT log_id::text FROM unilog.log`)
	w.must(next.Reset(w.ctx, unilog.Term{LogID: logID, Epoch: 1}, 100))
	if _, err := switchlog.Copy(w.ctx, w.db, "", next, switchlog.Keep{Records: 10}); err == nil {
		t.Error("copied behind another writer")
	}
	foreign := w.engine("c")
	w.must(foreign.Reset(w.ctx, unilog.Term{LogID: "0196f0c4-0000-7000-8000-000000000002", Epoch: 1}, 0))
	var theirs *unilog.ForeignLogError
	if _, err := switchlog.Copy(w.ctx, w.db, "", foreign, switchlog.Keep{Records: 10}); !errors.As(err, &theirs) {
		t.Errorf("copied into another database's log: %v", err)
	}
}

func entry(n int) unilog.Entry {
	return unilog.Entry{Record: record(n), Offset: int64(n), StagedAt: time.UnixMicro(int64(n)).UTC()}
}

// TestCopyOfWhatIsPublished numbers records that are not published, and may be lost
// yet.
// TestCopyHeedsTheExpiry copies for a consumer that was silent for two days.
func TestCopyHeedsTheExpiry(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`UPDATE unilog.partitions SET next_offset = 5, published_offset = 4`)
	w.exec(`INSERT INTO unilog.checkpoints (name, partition, updated_at) VALUES ('silent', 0, now() - interval '2 days')`)
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		return fixtures.Archive(w.ctx, tx, []unilog.Entry{entry(1), entry(2), entry(3), entry(4)})
	}))
	for name, test := range map[string]struct {
		expiry time.Duration
		want   int64
	}{"d": {0, 4}, "e": {72 * time.Hour, 4}, "f": {24 * time.Hour, 1}} {
		n, err := switchlog.Copy(w.ctx, w.db, "", w.engine(name), switchlog.Keep{Records: 1, ConsumerExpiry: test.expiry})
		if n != test.want || err != nil {
			t.Errorf("with an expiry of %v it copied %d: %v", test.expiry, n, err)
		}
	}
}

func TestCopyOfWhatIsPublished(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`UPDATE unilog.partitions SET next_offset = 6, published_offset = 4`)
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		return fixtures.Archive(w.ctx, tx, []unilog.Entry{entry(1), entry(2), entry(3), entry(4), entry(5)})
	}))
	next := w.engine("b")
	if n, err := switchlog.Copy(w.ctx, w.db, "", next, switchlog.Keep{Records: -1}); n != 0 || err == nil || !strings.Contains(err.Error(), "records to keep is -1: it must not be negative") {
		t.Errorf("copied %d: %v", n, err)
	}
	if head, err := next.Head(w.ctx, 0); err != nil || head != (unilog.Head{}) {
		t.Errorf("what was refused wrote to the log: %+v, %v", head, err)
	}
	for _, want := range []int64{3, 0} {
		if n, err := switchlog.Copy(w.ctx, w.db, "", next, switchlog.Keep{Records: 3}); n != want || err != nil {
			t.Errorf("copied %d of %d: %v", n, want, err)
		}
	}
	if n, err := switchlog.Compare(w.ctx, w.db, "", next); n != 3 || err != nil || w.heads("b")[0] != 4 {
		t.Errorf("compared %d, up to %d: %v", n, w.heads("b"), err)
	}
}

// TestMoveEndsAllTerms also has another log in the database.
func TestMoveEndsAllTerms(t *testing.T) {
	t.Parallel()
	w := setup(t)
	const tenant = unilog.Schema("tenant")
	w.must(migration.In(tenant).Up(w.ctx, w.db, migration.Log))
	terms := func(schema unilog.Schema) string {
		return query[string](w, schema.SQL(`SELECT l.epoch || ' ' || p.epoch FROM unilog.log AS l, unilog.partitions AS p`))
	}
	for i, step := range []func() error{
		func() error { _, err := switchlog.Move(w.ctx, w.db, tenant, "b"); return err },
		func() error { _, err := switchlog.Undo(w.ctx, w.db, tenant); return err },
	} {
		w.must(step())
		if got, want := terms(tenant), fmt.Sprintf("%d %[1]d", i+1); got != want {
			t.Errorf("the epochs are %s, want %s", got, want)
		}
	}
	if got := terms(""); got != "0 0" {
		t.Errorf("another log's epochs are %s", got)
	}
	if _, err := switchlog.Move(w.ctx, w.db, "No", "b"); err == nil || !strings.Contains(err.Error(), "the schema's name") {
		t.Errorf("a move in a schema that cannot be: %v", err)
	}
}
