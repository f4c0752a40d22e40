package switchlog_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/await"
	fixtures "github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/switchlog"
)

// TestReportsFollowTheLog moves a log under a consumer that reports through it.
func TestReportsFollowTheLog(t *testing.T) {
	t.Parallel()
	w := setup(t)
	log := w.log()
	report := func(name string, offset int64) {
		t.Helper()
		w.must(log.Report(w.ctx, name, map[int]unilog.Cursor{0: {Offset: offset, Position: "1/x"}}))
	}
	wants := func(when string, log any, want map[string]int64) {
		t.Helper()
		reports, err := log.(unilog.Reporter).Reports(w.ctx)
		w.must(err)
		for _, r := range reports {
			if want[r.Name] != r.Offset {
				t.Errorf("%s, %s is reported at %d", when, r.Name, r.Offset)
			}
		}
		if len(reports) != len(want) {
			t.Errorf("%s, the reports are %+v", when, reports)
		}
	}
	report("mails", 3)
	_, err := switchlog.Move(w.ctx, w.db, "", "b")
	w.must(err)
	await.True(t, "it to follow", func() bool { // for which it has five seconds
		_, err := log.Head(w.ctx, 0)
		return err == nil
	})
	wants("after a move", log, nil)
	report("mails", 4)
	wants("after the next report", log, map[string]int64{"mails": 4})
	wants("in the new place", w.engine("b"), map[string]int64{"mails": 4})
	w.must(log.ForgetReports(w.ctx, "mails"))
	wants("when it is forgotten", w.engine("b"), nil)
	wants("in the old place", w.engine(""), map[string]int64{"mails": 3})
}

// TestCopyHeedsReports copies for a consumer elsewhere where that is asked for, and says
// how far it is.
func TestCopyHeedsReports(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.exec(`UPDATE unilog.partitions SET next_offset = 5, published_offset = 4`)
	w.exec(`INSERT INTO unilog.readers (name, partition, "offset") VALUES ('mails', 0, 1)`)
	w.must(pgx.BeginFunc(w.ctx, w.db, func(tx pgx.Tx) error {
		return fixtures.Archive(w.ctx, tx, []unilog.Entry{entry(1), entry(2), entry(3), entry(4)})
	}))
	for asked, want := range map[bool]int64{false: 1, true: 3} {
		var n, of int64
		keep := switchlog.Keep{Records: 1, ForReports: asked, Copied: func(is, all int64) { n, of = is, all }}
		copied, err := switchlog.Copy(w.ctx, w.db, "", w.engine(map[bool]string{false: "b", true: "c"}[asked]), keep)
		if copied != want || n != want || of != want || err != nil {
			t.Errorf("asked for reports, %v: it copied %d (%d of %d): %v", asked, copied, n, of, err)
		}
	}
}
