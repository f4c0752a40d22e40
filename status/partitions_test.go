package status_test

import (
	"context"
	"regexp"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/logtest"
	"github.com/rocketrides/unilog/status"
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
	w.Exec(`INSERT INTO checkpoints (name, partition, "offset") SELECT 'sum', partition, next_offset - 1 FROM log_partitions`)
	w.Exec(`INSERT INTO sums VALUES ('sum', 100)`)
	return w, s
}

// forget leaves nothing for the audit.
func forget(w *world.World) {
	w.Helper()
	w.Exec(`DELETE FROM checkpoints`)
	w.Exec(`DELETE FROM sums`)
}

func TestStatusAddsPartitionsUp(t *testing.T) {
	t.Parallel()
	w, _ := withPartitions(t)
	defer forget(w)
	w.Commit("1", "2")
	w.Exec(`DELETE FROM checkpoints WHERE partition = 1`) // not registered there yet
	w.Exec(`UPDATE checkpoints SET "offset" = "offset" - 3 WHERE partition = 2`)
	w.Exec(`UPDATE log_records SET staged_at = now() - interval '4 hours' WHERE partition = 2`)
	w.Exec(`INSERT INTO consumer_members (name, member, seen_at) VALUES
		('sum', gen_random_uuid(), now() + interval '1 hour'), ('sum', gen_random_uuid(), now() + interval '1 hour'), ('sum', gen_random_uuid(), now() - interval '1 minute')`)
	s := world.Steady(w.Status())
	if s.Numbered != 100 || s.Published != 100 || s.Log.Offset != 100 || s.First != 1 || s.Staged != 2 || s.Log.Partitions != 4 || s.Leaders() != 4 {
		t.Errorf("the status is %+v", s)
	}
	var numbered, published, head int64
	for i, p := range s.Partitions {
		numbered, published, head = numbered+p.Numbered, published+p.Published, head+p.Log.Offset
		if p.Partition != i || !p.Active || p.Leader == nil || p.Epoch == 0 || p.First != 1 || p.Numbered == 0 || p.Trouble != "" || p.LogError != "" {
			t.Errorf("partition %d: %+v", i, p)
		}
	}
	if len(s.Partitions) != 4 || numbered != 100 || published != 100 || head != 100 {
		t.Errorf("the partitions are %+v", s.Partitions)
	}
	lag := s.Partitions[1].Numbered
	c := s.Consumers[0]
	if len(s.Consumers) != 1 || c.Checkpoint != 97-lag || c.Lag != lag+3 || c.Slowest != 2 || c.LagSeconds != 4*3600 || c.Processes != 2 {
		t.Errorf("the consumer is %+v", c)
	}
	if len(c.Behind) != 2 || c.Behind[0].Partition != 1 || c.Behind[0].Lag != lag || c.Behind[1].Partition != 2 || c.Behind[1].Lag != 3 {
		t.Errorf("the consumer is behind in %+v", c.Behind)
	}
	c.Behind[1].LagSeconds = 4 // not long enough to be worth mentioning
	if troubles := s.Troubles(); len(troubles) > 0 {
		t.Errorf("the troubles are %q", troubles)
	}
}

func TestTroublesNameThePartitions(t *testing.T) {
	t.Parallel()
	for says, change := range map[string]func(w *world.World, s *streamer.Streamer){
		"partitions 0, 1, 2 and 3: no streamer leads: 1 records wait": func(w *world.World, s *streamer.Streamer) { s.Close(); w.Commit("1") },
		"partition 3: the streamer has failed for": func(w *world.World, _ *streamer.Streamer) {
			w.Exec(`UPDATE log_partitions SET trouble = 'no way', troubled_at = now() WHERE partition = 3`)
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
			w.Exec(`UPDATE log_records SET staged_at = now() - interval '5 hours'`)
			w.Exec(`UPDATE checkpoints SET "offset" = "offset" - 2 - partition / 2 WHERE partition IN (1, 3)`)
		},
		"partition 2: sum is behind by 1 records, 18000 s, and has been silent for 7200 s": func(w *world.World, _ *streamer.Streamer) {
			w.Exec(`UPDATE log_records SET staged_at = now() - interval '5 hours'`)
			w.Exec(`UPDATE checkpoints SET "offset" = "offset" - 1, updated_at = now() - interval '2 hours' WHERE partition = 2`)
		},
		"partition 1: sum is ahead of the database": func(w *world.World, _ *streamer.Streamer) {
			w.Exec(`UPDATE checkpoints SET "offset" = "offset" + 1 WHERE partition = 1`)
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

// TestStatusOfManyPartitions sees that each look at the archive goes to the chunks
// of its partition alone.
func TestStatusOfManyPartitions(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const partitions = 12
	w.Repartition(partitions, 1)
	w.CommitMany(10 * partitions)
	w.Drain(w.Streamer())
	w.Exec(`INSERT INTO checkpoints (name, partition, "offset") SELECT 'sum', partition, 1 FROM log_partitions`)
	defer forget(w)
	for name, sql := range map[string]string{"partitions": status.SQLPartitions, "consumers": status.SQLConsumers} {
		plan := w.Explain(sql)
		looks := regexp.MustCompile(`.* on log_records_p.*`).FindAllString(plan, -1)
		w.WantCount(name+": chunks", len(looks), partitions)
		for _, look := range looks {
			if !strings.Contains(look, "Index") || !strings.Contains(look, "loops=1)") {
				t.Errorf("%s: %s", name, look)
			}
		}
	}
	s := w.Status()
	if s.Numbered != 10*partitions || len(s.Partitions) != partitions || len(s.Consumers[0].Behind) != partitions {
		t.Errorf("the status is %+v", s)
	}
}

// TestStatusOfALogThatGrows sees that a log which is read after the database is not
// taken for one that is ahead of it.
func TestStatusOfALogThatGrows(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s := w.Streamer()
	w.Commit("1")
	w.Drain(s)
	w.Memory.Intercept(func(ctx context.Context, call logtest.Call, do func(context.Context) error) error {
		if call.Method == "Head" && call.Partition == 0 {
			w.Memory.Intercept(nil)
			w.Commit("1", "1")
			w.Drain(s)
		}
		return do(context.WithoutCancel(ctx)) // however long that took
	})
	status, err := status.Read(w.Ctx, w.DB, w.Log)
	w.Must(err)
	for _, trouble := range world.Steady(status).Troubles() {
		t.Error(trouble)
	}
	if status.Log.Offset != 1 || status.Numbered != 1 {
		t.Errorf("the log is at %d of %d, want what the snapshot has", status.Log.Offset, status.Numbered)
	}
}
