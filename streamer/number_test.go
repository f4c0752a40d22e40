package streamer_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/world"
	"github.com/rocketrides/unilog/streamer"
)

// TestPlansOnLargeTables sees that each statement of a loop is served by its
// index, whether or not Postgres has statistics about the tables yet.
func TestPlansOnLargeTables(t *testing.T) {
	t.Parallel()
	w := world.Setup(t)
	const rows = 100_000
	s := w.Streamer(func(cfg *streamer.Config) { *cfg = streamer.WithChunkRecords(*cfg, rows/4) })
	w.Commit("1")
	w.Drain(s)
	w.CommitMany(rows / 2)
	w.Drain(s)
	w.CommitMany(rows)
	w.Exec(`INSERT INTO checkpoints (name, partition) SELECT 'c' || n, 0 FROM generate_series(1, 1000) AS n`)
	term := s.Term()

	for _, analyzed := range []bool{false, true} {
		if analyzed {
			w.Exec(`ANALYZE`)
		}
		for _, c := range []struct {
			sql  string
			args []any
			uses string
		}{
			{streamer.SQLNumber, []any{0, term.Epoch, 1000, 4 << 20, 0, 0, ""}, "Index Scan using staged_log_records_pkey"},
			{streamer.SQLProbe, []any{0, 0}, "staged_log_records_pkey"},
			{streamer.SQLArchived, []any{0, 30_000, 60_000, 1000, 4 << 20}, "Index Scan using log_records_p0_25001_to_50000_pkey"},
		} {
			plan := w.Explain(c.sql, c.args...)
			if !strings.Contains(plan, c.uses) {
				t.Errorf("analyzed %v: no %q in the plan of\n%s\n%s", analyzed, c.uses, c.sql, plan)
			}
			if large := regexp.MustCompile(`Seq Scan on (staged_log_records|log_records\w*|checkpoints)`).FindString(plan); large != "" {
				t.Errorf("analyzed %v: %q in the plan of\n%s\n%s", analyzed, large, c.sql, plan)
			}
		}
	}
	w.Exec(`TRUNCATE checkpoints`)
}
