package reader_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/reader"
	"github.com/rocketrides/unilog/internal/world"
)

// quiet is a wait that lets an empty log be compared with the archive.
const quiet = time.Nanosecond

// setupSource makes a source of so many published records, and a reader that has it
// as its archive.
func setupSource(t *testing.T, n int, change ...func(*reader.Config)) (*fixture, *world.World) {
	t.Helper()
	w := world.Setup(t)
	w.Publish(n)
	logID := world.Query[string](w, `SELECT log_id::text FROM unilog.log`)
	f := setup(t, logID, append(change, func(cfg *reader.Config) { cfg.Archive = w.DB })...)
	f.write(logID, int64(n))
	return f, w
}

// all reads until nothing comes, or an error does.
func (f *fixture) all() (got []int64, err error) {
	f.Helper()
	for {
		next, err := f.next(quiet, 10)
		if err != nil || len(next) == 0 {
			return got, err
		}
		got = append(got, next...)
		f.Advance(unilog.Cursor{Offset: next[len(next)-1]})
		f.place.at = f.At()
	}
}

// TestNoHoleIsPassedOver tries all ways in which five records can be missing in the
// log, and at the beginning of the archive.
func TestNoHoleIsPassedOver(t *testing.T) {
	t.Parallel()
	const n = 5
	f, w := setupSource(t, n)
	for dropped := range int64(n + 1) {
		w.LoseArchive(0, dropped)
		for missing := range 1 << n {
			for _, archive := range []*pgxpool.Pool{w.DB, nil} {
				inLog := func(offset int64) bool { return missing&(1<<(offset-1)) == 0 }
				g := setup(t, f.place.logID, func(cfg *reader.Config) { cfg.Archive = archive })
				g.write(f.place.logID, n)
				last := int64(n) // that is to be missed
				if archive == nil {
					last = 0
				}
				for offset := int64(1); offset <= n; offset++ {
					if !inLog(offset) {
						g.log.Remove(0, offset)
					} else {
						last = max(last, offset)
					}
				}
				has := func(offset int64) bool { return inLog(offset) || archive != nil && offset > dropped }
				from := int64(1)
				for from <= last && has(from) {
					from++
				}
				to := from
				for to < last && !has(to+1) {
					to++
				}
				got, err := g.all()
				what := fmt.Sprintf("missing in the log %05b, archive %t from %d on", missing, archive != nil, dropped+1)
				if int64(len(got)) != from-1 || len(got) > 0 && got[len(got)-1] != from-1 {
					t.Fatalf("%s: it gives %v, want all before %d", what, got, from)
				}
				var gap *unilog.GapError
				switch {
				case from > last && err != nil:
					t.Fatalf("%s: it says %v", what, err)
				case from <= last && (!errors.As(err, &gap) || gap.From != from || gap.To != to || gap.Archive != (archive != nil)):
					t.Fatalf("%s: it says %v, want a gap from %d to %d", what, err, from, to)
				}
			}
		}
	}
}

// TestArchiveIsReadUpToWhatIsPublished has records that are numbered and that the
// streamer does not know to be safe yet.
func TestArchiveIsReadUpToWhatIsPublished(t *testing.T) {
	t.Parallel()
	f, w := setupSource(t, 5)
	w.Exec(`UPDATE unilog.partitions SET published_offset = 3`)
	f.write(f.place.logID, 0)
	got, err := f.all()
	f.must(err)
	if fmt.Sprint(got) != "[1 2 3]" || fmt.Sprint(offsets(f.filled)) != "[1 2 3]" {
		t.Errorf("it gives %v, and tells of %v", got, offsets(f.filled))
	}
}

// TestGapThatAnotherInstanceHasPassed moves the checkpoint between two looks at it.
func TestGapThatAnotherInstanceHasPassed(t *testing.T) {
	t.Parallel()
	f := setup(t, "ours")
	f.write("ours", 5)
	f.log.Remove(0, 1, 2)
	loads := 0
	f.place.load = func() {
		if loads++; loads == 2 {
			f.place.at.Offset = 3
		}
	}
	f.want(10)
	f.want(10, 4, 5)
}

// TestCheckpointThatWasTakenBack undoes a commit while the log gives nothing.
func TestCheckpointThatWasTakenBack(t *testing.T) {
	t.Parallel()
	f, _ := setupSource(t, 5, func(cfg *reader.Config) { cfg.Unsynced = true })
	got, err := f.all()
	f.must(err)
	if fmt.Sprint(got) != "[1 2 3 4 5]" {
		t.Fatalf("it gives %v", got)
	}
	f.place.at.Offset = 2
	if _, err := f.next(quiet, 10); err != nil {
		t.Fatal(err)
	}
	f.want(10, 3, 4, 5)
}

// TestLoadComparesWithTheSource sees what no entry would tell.
func TestLoadComparesWithTheSource(t *testing.T) {
	t.Parallel()
	f, _ := setupSource(t, 3)
	ours := f.place.logID
	f.place.at.Offset = 4
	var ahead *unilog.CheckpointAheadError
	for range 2 { // it does not take the first look for a good one
		if err := f.Load(t.Context()); !errors.As(err, &ahead) || ahead.Checkpoint != 4 || ahead.Database != 3 {
			t.Errorf("with the checkpoint ahead it says %v", err)
		}
	}
	f.place.at.Offset = 0
	f.write(ours, 5)
	var logAhead *unilog.LogAheadError
	if err := f.Load(t.Context()); !errors.As(err, &logAhead) || logAhead.Log != 5 || logAhead.Database != 3 {
		t.Errorf("with the log ahead it says %v", err)
	}
	f.log.SetLogID(0, "another")
	if err := f.Load(t.Context()); !errors.Is(err, errForeign) {
		t.Errorf("with another database's log ahead it says %v", err)
	}
	f.log.SetLogID(0, ours)
	f.place.logID = "another"
	if err := f.Load(t.Context()); !errors.Is(err, errForeign) {
		t.Errorf("with another database as the archive it says %v", err)
	}
	f.place.logID = ours
	f.write(ours, 3)
	f.want(10, 1, 2, 3)
}

// archiveAt makes the source look as if it had so many records.
func archiveAt(w *world.World, n int64) {
	w.Helper()
	w.Exec(`UPDATE unilog.partitions SET next_offset = $1 + 1, published_offset = $1`, n)
}

func (f *fixture) wantLag(err error, offset, archive int64) {
	f.Helper()
	var lags *unilog.ArchiveLagsError
	if !errors.As(err, &lags) || lags.Offset != offset || lags.Archive != archive {
		f.Errorf("it says %v, want that the archive is at %d and lacks %d", err, archive, offset)
	}
}

// TestCheckpointAheadOfTheArchive tells an archive that lags from a checkpoint that is
// nobody's, by what the log has.
func TestCheckpointAheadOfTheArchive(t *testing.T) {
	t.Parallel()
	f, w := setupSource(t, 5)
	ours := f.place.logID
	f.place.at.Offset = 5
	archiveAt(w, 3)
	for range 2 {
		f.wantLag(f.Load(t.Context()), 5, 3)
	}
	f.log.Wipe()
	f.wantLag(f.Load(t.Context()), 5, 3) // nobody has claimed it again yet
	f.write(ours, 9)
	f.wantLag(f.Load(t.Context()), 5, 3)
	f.write(ours, 4)
	var ahead *unilog.CheckpointAheadError
	if err := f.Load(t.Context()); !errors.As(err, &ahead) || ahead.Checkpoint != 5 || ahead.Database != 3 {
		t.Errorf("when the log does not have it either it says %v", err)
	}
	f.write("another", 9)
	if err := f.Load(t.Context()); !errors.As(err, &ahead) {
		t.Errorf("when another log has the offset it says %v", err)
	}
	f.write(ours, 5)
	archiveAt(w, 5)
	f.want(10)

	archiveAt(w, 4) // a query that is sent to another standby
	_, err := f.next(quiet, 10)
	f.wantLag(err, 5, 4)
	archiveAt(w, 5)
	got, err := f.next(quiet, 10)
	f.must(err)
	if len(got) > 0 {
		t.Errorf("it gives %v", got)
	}

	same := setup(t, ours, func(cfg *reader.Config) { cfg.Archive, cfg.Unsynced = w.DB, true })
	same.write(ours, 9)
	same.place.at.Offset = 6
	if err := same.Load(t.Context()); !errors.As(err, &ahead) {
		t.Errorf("with the checkpoint in the archive's own database it says %v", err)
	}
}

// TestGapWhileTheArchiveLags has the log lose what the archive does not have yet.
func TestGapWhileTheArchiveLags(t *testing.T) {
	t.Parallel()
	f, w := setupSource(t, 5)
	f.must(f.Load(t.Context()))
	f.log.Remove(0, 1, 2)
	archiveAt(w, 0)
	w.Exec(`CREATE TABLE later AS SELECT * FROM unilog.batches; DELETE FROM unilog.batches`)
	_, err := f.next(0, 10)
	f.wantLag(err, 3, 0)
	w.Exec(`INSERT INTO unilog.batches SELECT * FROM later`)
	archiveAt(w, 5)
	got, err := f.all()
	f.must(err)
	if fmt.Sprint(got) != "[1 2 3 4 5]" || fmt.Sprint(offsets(f.filled)) != "[1 2]" {
		t.Errorf("it gives %v, of which the archive gave %v", got, offsets(f.filled))
	}
}

// TestLogRunsAheadOfALaggingArchive never lets the archive have what the log has.
func TestLogRunsAheadOfALaggingArchive(t *testing.T) {
	t.Parallel()
	f, w := setupSource(t, 5)
	ours := f.place.logID
	var ahead *unilog.LogAheadError
	for _, test := range []struct{ archive, log int64 }{
		{3, 5}, {4, 6}, // it is not where the log was
		{4, 5}, {3, 4}, // the log has lost something
	} {
		archiveAt(w, test.archive)
		f.write(ours, test.log)
		if err := f.Load(t.Context()); !errors.As(err, &ahead) || ahead.Log != test.log || ahead.Database != test.archive {
			t.Errorf("with the log at %d and the archive at %d it says %v", test.log, test.archive, err)
		}
	}
	archiveAt(w, 4)
	f.write(ours, 8)
	f.must(f.Load(t.Context()))
	f.Forget()
	if err := f.Load(t.Context()); !errors.As(err, &ahead) {
		t.Errorf("at the next look it says %v, want it to look anew", err)
	}
	archiveAt(w, 5)
}
