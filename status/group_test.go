package status_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// withPartitions makes a world of 4 partitions that have records, all of which a
// consumer has applied.
func withPartitions(t *testing.T) (*world.World, *streamer.Streamer) {
	t.Helper()
	w := world.Setup(t)
	w.Repartition(4, 1)
	s := w.Streamer()
	w.CommitKeyed(1, 5, world.Keys(20)...)
	w.Drain(s)
	w.Exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") SELECT 'sum', partition, next_offset - 1 FROM unilog.partitions`)
	w.Exec(`INSERT INTO sums VALUES ('sum', 100)`)
	return w, s
}

// forget leaves nothing for the audit.
func forget(w *world.World) {
	w.Helper()
	w.Exec(`DELETE FROM unilog.checkpoints`)
	w.Exec(`DELETE FROM sums`)
}

func TestTroublesNameThePartitions(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(w *world.World, s *streamer.Streamer){
		"partitions 0, 1, 2 and 3: no streamer leads: 1 records wait": func(w *world.World, s *streamer.Streamer) { s.Close(); w.Commit("1") },
		"partition 3: the streamer has failed for": func(w *world.World, _ *streamer.Streamer) {
			w.Exec(`UPDATE unilog.partitions SET trouble = 'no way', troubled_at = now() WHERE partition = 3`)
		},
		"partition 1: the log has lost records: it is at offset 0 of": func(w *world.World, _ *streamer.Streamer) {
			w.Memory.Lose(1, 0)
		},
		"partition 2: the stream belongs to another database": func(w *world.World, _ *streamer.Streamer) {
			w.Memory.SetLogID(2, "another")
		},
		"partition 3: the log is at offset 900 and the database only at": func(w *world.World, _ *streamer.Streamer) {
			w.Memory.Put(unilog.Entry{Partition: 3, Offset: 900})
		},
		"partitions 1 and 3: sum is behind by 5 records, 18000 s: see what it logs; it holds the retention back": func(w *world.World, _ *streamer.Streamer) {
			w.DateArchive(-1, "5 hours")
			w.Exec(`UPDATE unilog.checkpoints SET "offset" = "offset" - 2 - partition / 2 WHERE partition IN (1, 3)`)
		},
		"partition 2: sum is behind by 1 records, 18000 s, and has been silent for 7200 s": func(w *world.World, _ *streamer.Streamer) {
			w.DateArchive(-1, "5 hours")
			w.Exec(`UPDATE unilog.checkpoints SET "offset" = "offset" - 1, updated_at = now() - interval '2 hours' WHERE partition = 2`)
		},
		"partition 1: sum is ahead of the database": func(w *world.World, _ *streamer.Streamer) {
			w.Exec(`UPDATE unilog.checkpoints SET "offset" = "offset" + 1 WHERE partition = 1`)
		},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w, s := withPartitions(t)
			defer forget(w)
			change(w, s)
			if troubles := world.Steady(w.Status()).Troubles(); len(troubles) != 1 || !strings.HasPrefix(troubles[0], says) {
				t.Errorf("the troubles are %q, want one that begins with %q", troubles, says)
			}
		})
	}
}
