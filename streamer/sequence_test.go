package streamer_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/world"
)

// TestIDsThatAreNoOrder sees that nothing is numbered by ids that do not tell in which
// order records were staged, that this is said, and that what it says to do helps.
func TestIDsThatAreNoOrder(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, says string }{
		"blocks of ids for each session": {`ALTER SEQUENCE unilog.staged_records_id_seq CACHE 50`, "CACHE 50"},
		"downwards":                      {`ALTER SEQUENCE unilog.staged_records_id_seq INCREMENT -1 MINVALUE -9 MAXVALUE 9`, "INCREMENT -1"},
		"from the beginning again":       {`ALTER SEQUENCE unilog.staged_records_id_seq CYCLE`, "CYCLE"},
		"another sequence": {`CREATE SEQUENCE another; ALTER TABLE unilog.staged_records ALTER id DROP IDENTITY;
			ALTER TABLE unilog.staged_records ALTER id SET DEFAULT nextval('another')`, "no identity"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			s := w.Streamer()
			w.Commit("1")
			w.Drain(s)
			w.Exec(c.sql)
			var refused *unilog.SequenceSettingError
			if _, err := w.Patiently(func(ctx context.Context) (int, error) { return 0, s.Upkeep(ctx) }); !errors.As(err, &refused) || !strings.Contains(refused.Found, c.says) {
				t.Fatalf("while it runs: %v, want %s", err, c.says)
			}
			w.Commit("2")
			if _, err := w.Patiently(s.RunOnce); !errors.As(err, &refused) {
				t.Errorf("at the next term: %v", err)
			}
			if err := w.Streamer().Run(w.Ctx); !errors.As(err, &refused) {
				t.Errorf("another streamer: %v", err)
			}
			if err := s.Ready(); err == nil {
				t.Error("it is ready")
			}
			w.WantCount("records", world.Query[int](w, `SELECT count(*) FROM unilog.records`), 1)
			if says := strings.Join(w.Status().Troubles(), "\n"); !strings.Contains(says, refused.Change) {
				t.Errorf("status says %s", says)
			}
			change, _ := strings.CutPrefix(refused.Change, "run ")
			change, _, _ = strings.Cut(change, ", n ")
			w.Exec(strings.Replace(change, "START n", "START 10", 1))
			w.Commit("3")
			w.WantCount("published afterwards", w.Drain(s), 2)
			w.Consume(w.Consumer("sum"))
		})
	}
}

// Gaps between ids are no harm.
func TestIDsInSteps(t *testing.T) {
	t.Parallel()
	w := world.SetupOnRedis(t)
	w.Exec(`ALTER SEQUENCE unilog.staged_records_id_seq INCREMENT 7`)
	s := w.Streamer()
	w.Commit("1", "2")
	w.WantCount("published", w.Drain(s), 2)
	w.Consume(w.Consumer("sum"))
}
