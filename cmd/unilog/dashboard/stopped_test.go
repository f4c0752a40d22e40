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
	look := func(want ...consumerFigure) {
		t.Helper()
		var got sample
		s.must(d.readPostgres(t.Context(), &got))
		for i, c := range got.Consumers {
			if c.Paused != want[i].Paused || c.Halted != want[i].Halted || c.Why != want[i].Why {
				t.Errorf("%s is %+v, want %+v", c.Name, c, want[i])
			}
		}
	}
	look(consumerFigure{Paused: "ada"}, consumerFigure{Halted: "has halted at offset 7", Why: "the ride is cursed"},
		consumerFigure{Halted: "has halted", Why: "it is ahead"}, consumerFigure{})
	_, err := migration.Repartition(t.Context(), s.db, 12)
	s.must(err)
	s.exec(`UPDATE unilog.checkpoints SET trouble = 'cursed, too', troubled_at = now(), rejected = 1 WHERE name = 'cursed' AND partition IN (2, 10)`)
	look(consumerFigure{Paused: "ada"}, consumerFigure{Halted: "has halted in partition 0 at offset 7 and in 2 more", Why: "the ride is cursed"},
		consumerFigure{Halted: "has halted in partition 0", Why: "it is ahead"}, consumerFigure{})
}
