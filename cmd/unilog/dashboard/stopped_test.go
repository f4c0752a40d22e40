package dashboard

import (
	"testing"

	"github.com/rocketrides/unilog/migration"
)

// TestSampleSaysWhatHasStopped has consumers that a person has paused, that have halted,
// and one that has done neither.
func TestSampleSaysWhatHasStopped(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.exec(`INSERT INTO unilog.checkpoints (name, partition, "offset", paused_at, paused_by, trouble, troubled_at, rejected) VALUES
		('asleep', 0, 0, now(), 'ada', NULL, NULL, NULL), ('cursed', 0, 6, NULL, NULL, E'the ride\nis cursed', now(), 7),
		('far ahead', 0, 9, NULL, NULL, 'it is ahead', now(), NULL), ('well', 0, 0, NULL, NULL, NULL, NULL, NULL)`)
	d := patient(Config{DB: s.db, Log: s.log})
	look := func(want ...string) {
		t.Helper()
		var got sample
		s.must(d.readPostgres(t.Context(), &got))
		for i, c := range got.Consumers {
			if c.Stopped != want[i] {
				t.Errorf("%s is %q, want %q", c.Name, c.Stopped, want[i])
			}
		}
	}
	look("is paused by ada", "has halted at offset 7: the ride is cursed", "has halted: it is ahead", "")
	_, err := migration.Repartition(t.Context(), s.db, 2)
	s.must(err)
	look("is paused by ada", "has halted in partition 0 at offset 7: the ride is cursed", "has halted in partition 0: it is ahead", "")
}
