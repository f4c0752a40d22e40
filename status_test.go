package unilog_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
)

func (w *world) status() *unilog.Status {
	w.Helper()
	s, err := unilog.ReadStatus(w.ctx, w.db, w.log)
	w.must(err)
	return s
}

func TestStatusSaysWhereEverythingStands(t *testing.T) {
	t.Parallel()
	w := setup(t)
	s, c := w.streamer(), w.consumer("sum")
	w.commit("1", "2", "3")
	w.drain(s)
	w.consume(c)
	w.commit("4")
	w.drain(s)
	w.commit("5", "6")
	got := w.status()
	if got.Staged != 2 || got.Numbered != 4 || got.Published != 4 || got.First != 1 || got.Log.Offset != 4 ||
		got.Leader == nil || got.Epoch != s.Term().Epoch || len(got.Consumers) != 1 {
		t.Fatalf("the status is %+v", got)
	}
	if c := got.Consumers[0]; c.Name != "sum" || c.Checkpoint != 3 || c.Lag != 1 || c.LagSeconds <= 0 || c.DeadLetters != 0 {
		t.Errorf("the consumer's is %+v", c)
	}
	if troubles := got.Troubles(); len(troubles) != 0 {
		t.Errorf("there are troubles: %v", troubles)
	}
}

func TestStatusSaysWhatIsStuckAndWhy(t *testing.T) {
	t.Parallel()
	minute := func(s *unilog.Status) { s.StagedFor = 60 }
	for says, change := range map[string]func(w *world, s *unilog.Streamer) func(*unilog.Status){
		"no streamer leads: 1 staged records wait": func(w *world, s *unilog.Streamer) func(*unilog.Status) { s.Resign(); w.commit("1"); return nil },
		"wait for 60 s to be numbered":             func(w *world, _ *unilog.Streamer) func(*unilog.Status) { w.commit("1"); return minute },
		"the log has lost records: it is at offset 0 of 3": func(w *world, _ *unilog.Streamer) func(*unilog.Status) {
			w.wipe()
			return nil
		},
		"belongs to another database": func(w *world, _ *unilog.Streamer) func(*unilog.Status) {
			w.command("HSET", "{"+w.stream+"}:leader", "log_id", "another")
			return nil
		},
		"the log is at offset 9 and the database only at 3": func(w *world, _ *unilog.Streamer) func(*unilog.Status) {
			w.command("XADD", w.stream, "9-0", "data", "1")
			return nil
		},
		"sum is behind by 3 records and has been silent for": func(w *world, _ *unilog.Streamer) func(*unilog.Status) {
			w.exec(`UPDATE checkpoints SET "offset" = 0, updated_at = now() - interval '5 minutes'`)
			w.exec(`UPDATE log_records SET staged_at = now() - interval '5 minutes'`)
			w.exec(`UPDATE sums SET total = 0`)
			return nil
		},
		"sum has parked 1 records": func(w *world, _ *unilog.Streamer) func(*unilog.Status) {
			w.exec(`
				INSERT INTO dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
				VALUES ('sum', 0, 3, now(), 'a', 'o', '', '{"amount": 0}', '{}', 'poison')`)
			return nil
		},
		"has been in one transaction for 90 s": func(*world, *unilog.Streamer) func(*unilog.Status) {
			return func(s *unilog.Status) { s.Old = []unilog.Session{{PID: 7, Application: "report", Seconds: 90}} }
		},
	} {
		t.Run(says, func(t *testing.T) {
			t.Parallel()
			w := setup(t)
			s := w.streamer()
			w.commit("1", "2", "3")
			w.drain(s)
			w.consume(w.consumer("sum"))
			pretend := change(w, s)
			status := w.status()
			if pretend != nil {
				pretend(status)
			}
			if troubles := status.Troubles(); len(troubles) != 1 || !strings.Contains(troubles[0], says) {
				t.Errorf("the troubles are %q, want one that says %q", troubles, says)
			}
			w.wipe()
		})
	}
}
