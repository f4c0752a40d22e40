package streamer_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/world"
)

// readAll returns what the archive has of the first partition, and the number of its
// batches, as its readers see it.
func readAll(ctx context.Context, db archive.Reader) (entries string, err error) {
	all, err := archive.Read(ctx, db, "", 0, 0, 1<<40, 1<<20)
	if err != nil {
		return "", err
	}
	for i, e := range all {
		if e.Offset != int64(i+1) {
			return "", fmt.Errorf("entry number %d has offset %d", i+1, e.Offset)
		}
		entries += fmt.Sprintf("%d %s %s %v %s %s %q %v\n", e.Offset, e.Action, e.Object, e.StagedAt, e.Key, e.ContentType, e.Payload(), e.Headers)
	}
	return entries, nil
}

const sqlView = `SELECT string_agg(r::text, E'\n' ORDER BY "offset") FROM (
	SELECT partition, "offset", staged_at, action, object, key, data, headers, body, content_type FROM unilog.records) AS r`

// TestSmallBatchesAreMerged numbers records one by one. Whoever reads meanwhile sees what
// there was, or what became of it.
func TestSmallBatchesAreMerged(t *testing.T) {
	t.Parallel()
	undisturbed(t, mergeSmallBatches)
}

func mergeSmallBatches(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	s := w.Streamer()
	one := func(n int) {
		for range n {
			w.Commit("1")
			w.Drain(s)
		}
	}
	batches := func(want int) {
		t.Helper()
		w.WantCount("batches", world.Query[int](w, `SELECT count(*) FROM unilog.batches`), want)
	}
	one(196)
	w.CommitBodies("1", "2")
	w.Drain(s)
	one(1)
	w.CommitBodies("-1")
	w.Drain(s)
	upkeep(w, s)
	one(1)
	if !isTerm(w, 1) { // each begins anew to count
		return false
	}
	batches(200)
	view, before := world.Query[string](w, sqlView), ""
	reader, err := w.DB.BeginTx(w.Ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	w.Must(err)
	before, err = readAll(w.Ctx, reader)
	w.Must(err)

	ctx, stop := context.WithCancel(w.Ctx)
	var reading errgroup.Group
	reading.Go(func() error {
		for ctx.Err() == nil {
			if now, err := readAll(w.Ctx, w.DB); err != nil || now != before {
				return fmt.Errorf("a reader sees\n%s\n%w", now, err)
			}
		}
		return nil
	})
	upkeep(w, s)
	stop()
	w.Ended("the reading", &reading)
	if !isTerm(w, 1) {
		w.Must(reader.Rollback(w.Ctx))
		return false
	}
	batches(1)
	if now := world.Query[string](w, sqlView); now != view {
		t.Errorf("the view has\n%s\nafter the merging, and before\n%s", now, view)
	}
	after, err := readAll(w.Ctx, reader)
	w.Must(err)
	w.Must(reader.Rollback(w.Ctx))
	if after != before {
		t.Errorf("who began before reads\n%s\nand before\n%s", after, before)
	}

	s.Close() // and another goes on
	s = w.Streamer()
	one(200)
	w.CommitMany(300) // large enough
	w.Drain(s)
	one(2)
	w.CommitMany(300)
	w.Drain(s)
	upkeep(w, s)
	if !isTerm(w, 2) {
		return false
	}
	batches(5)
	w.Consume(w.Consumer("sum"))
	w.WantTotal("sum", "1002")
	return true
}

// TestFailedMergeIsMadeUpFor lets the upkeep fail while many are numbered.
func TestFailedMergeIsMadeUpFor(t *testing.T) {
	t.Parallel()
	undisturbed(t, makeUpForMerge)
}

func makeUpForMerge(t *testing.T) (undisturbed bool) {
	t.Helper()
	w := world.Setup(t)
	w.Exec(`CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'nothing goes'; END $$`)
	w.Exec(`CREATE TRIGGER keep BEFORE DELETE ON unilog.batches FOR EACH ROW EXECUTE FUNCTION keep()`)
	s := w.Streamer()
	for range 410 {
		w.Commit("1")
		w.Drain(s)
	}
	upkeep(w, s)
	w.WantCount("batches", world.Query[int](w, `SELECT count(*) FROM unilog.batches`), 410)
	w.Exec(`DROP TRIGGER keep ON unilog.batches`)
	upkeep(w, s)
	if !isTerm(w, 1) { // each begins anew to count
		return false
	}
	w.WantCount("batches", world.Query[int](w, `SELECT count(*) FROM unilog.batches`), 12)
	return true
}
