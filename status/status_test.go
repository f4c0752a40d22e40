package status_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/status"
	"github.com/rocketrides/unilog/streamer"
)

func TestStatusSaysWhereEverythingStands(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	s, c := w.Streamer(), w.Consumer("sum")
	w.Commit("1", "2", "3")
	w.Drain(s)
	w.Consume(c)
	w.Commit("4")
	w.Drain(s)
	w.Commit("5", "6")
	got := w.Status()
	if got.Staged != 2 || got.Numbered != 4 || got.Published != 4 || got.First != 1 || got.Log.Offset != 4 ||
		got.Leader == nil || got.Epoch != world.Query[int64](w, `SELECT epoch FROM unilog.partitions WHERE partition = 0`) || len(got.Consumers) != 1 {
		t.Fatalf("the status is %+v", got)
	}
	if c := got.Consumers[0]; c.Name != "sum" || c.Checkpoint != 3 || c.Lag != 1 || c.LagSeconds <= 0 || c.DeadLetters != 0 {
		t.Errorf("the consumer's is %+v", c)
	}
	if troubles := world.Steady(got).Troubles(); len(troubles) != 0 {
		t.Errorf("there are troubles: %v", troubles)
	}
}

func TestStatusSaysWhatIsStuckAndWhy(t *testing.T) {
	t.Parallel()
	minute := func(s *status.Status) { s.StagedFor = 60 }
	for says, change := range map[string]func(w *world.World, s *streamer.Streamer) func(*status.Status){
		"no streamer leads: 1 records wait": func(w *world.World, s *streamer.Streamer) func(*status.Status) { s.Close(); w.Commit("1"); return nil },
		"wait for 60 s to be numbered":      func(w *world.World, _ *streamer.Streamer) func(*status.Status) { w.Commit("1"); return minute },
		"the log has lost records: it is at offset 0 of 3": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Wipe()
			return nil
		},
		"belongs to another database": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Memory.SetLogID(0, "another")
			return nil
		},
		"the log is at offset 9 and the database only at 3": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Memory.Put(unilog.Entry{Offset: 9})
			return nil
		},
		"this database takes no writes": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Memory.Put(unilog.Entry{Offset: 9})
			readOnly := func(on string) {
				w.Must(pgx.BeginTxFunc(w.Ctx, w.DB, pgx.TxOptions{AccessMode: pgx.ReadWrite}, func(tx pgx.Tx) error {
					_, err := tx.Exec(w.Ctx, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = `+on+`', current_database()); END $$`)
					return err
				}))
				w.DB.Reset()
			}
			readOnly("on")
			return func(*status.Status) { readOnly("off") }
		},
		"sum is behind by 3 records, 18000 s, and has been silent for 18000 s": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			fallBehind(w, "5 hours")
			return nil
		},
		"sum is behind by 3 records, 18000 s: see what it logs; it holds the retention back, unless it has expired: the archive keeps offset 1 and later": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			fallBehind(w, "0")
			return nil
		},
		"sum is behind by 3 records and the archive begins at offset 3, after its next one": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			fallBehind(w, "5 hours")
			return func(s *status.Status) { s.Partitions[0].First = 3 }
		},
		"the streamer has failed for 60 s and 1 records wait: unilog: no way": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Commit("1")
			return func(s *status.Status) {
				s.Partitions[0].Trouble, s.Partitions[0].TroubledFor, s.StagedFor = "unilog: no way", 60, 60
			}
		},
		"1 records wait; it tries again, if one is running: unilog: no way": func(w *world.World, s *streamer.Streamer) func(*status.Status) {
			s.Close()
			w.Commit("1")
			return func(s *status.Status) { s.Partitions[0].Trouble = "unilog: no way" }
		},
		"sum has parked 1 records": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Exec(`
				INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
				VALUES ('sum', 0, 3, now(), 'a', 'o', '', '{"amount": 0}', '{}', 'poison')`)
			return nil
		},
		"2 commits wait for a synchronous standby, the first for 60 s": func(*world.World, *streamer.Streamer) func(*status.Status) {
			return func(s *status.Status) { s.Unconfirmed, s.UnconfirmedFor = 2, 60 }
		},
		"a crash of Postgres would empty unilog.checkpoints": func(w *world.World, _ *streamer.Streamer) func(*status.Status) {
			w.Exec(`ALTER TABLE unilog.checkpoints SET UNLOGGED`)
			return nil
		},
		"has been in one transaction for 90 s": func(*world.World, *streamer.Streamer) func(*status.Status) {
			return func(s *status.Status) { s.Old = []status.Session{{PID: 7, Application: "report", Seconds: 90}} }
		},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w := world.Setup(t)
			s := w.Streamer()
			w.Commit("1", "2", "3")
			w.Drain(s)
			w.Consume(w.Consumer("sum"))
			pretend := change(w, s)
			status := world.Steady(w.Status())
			if pretend != nil {
				pretend(status)
			}
			if troubles := status.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], says) {
				t.Errorf("the troubles are %q, want one that says %q", troubles, says)
			}
			w.Wipe()
		})
	}
}

// fallBehind sets the consumer back to the beginning of records that are old,
// and lets it be silent.
func fallBehind(w *world.World, silent string) {
	w.Helper()
	w.Exec(`UPDATE unilog.checkpoints SET "offset" = 0, updated_at = now() - $1::interval`, silent)
	w.DateArchive(-1, "5 hours")
	w.Exec(`UPDATE sums SET total = 0`)
}

// TestStatusWithoutALog: of a log that could not be opened nothing is known.
func TestStatusWithoutALog(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	w.CommitMany(3)
	w.Drain(w.Streamer())
	w.Consume(w.Consumer("sum"))
	s, err := status.Read(w.Ctx, w.DB, "", nil)
	w.Must(err)
	if troubles := s.Troubles(); len(troubles) > 0 {
		t.Errorf("nobody asked the log, and the troubles are %q", troubles)
	}
	s.LogError = "no such host"
	if troubles := s.Troubles(); len(troubles) != 1 || troubles[0] != "the log cannot be read: no such host" {
		t.Errorf("the log could not be opened, and the troubles are %q", troubles)
	}
}
