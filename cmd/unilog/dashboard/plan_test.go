package dashboard

import (
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

var manyRemoved = regexp.MustCompile(`Rows Removed by Filter: \d{2,}`)

// The sample's statement is served by indexes, with and without statistics, and
// counts no more of a backlog than it says.
func TestPlanOnLargeTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const rows = 100_000
	s.exec(`INSERT INTO unilog.batches (partition, first_offset, last_offset, bytes, staged_at, action, object, key, data, headers)
		SELECT 0, n, n, 9, ARRAY[now()], '{create}', '{ride}', '{""}', '{"{}"}', '{"{}"}' FROM generate_series(1, $1::bigint) AS n`, rows)
	s.exec(`UPDATE unilog.partitions SET next_offset = $1 + 1`, rows)
	s.exec(sqlBook, rows)
	s.exec(`INSERT INTO unilog.checkpoints (name, partition, "offset") SELECT 'c' || n, 0, 500 * n FROM generate_series(1, 100) AS n`)
	s.exec(`INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
		SELECT 'c' || n % 10, 0, n, now(), 'create', 'ride', '', '{}', '{}', '' FROM generate_series(1, $1) AS n`, rows)

	for _, analyzed := range []bool{false, true} {
		if analyzed {
			s.exec(`ANALYZE`)
		}
		tx, err := s.db.Begin(t.Context())
		s.must(err)
		_, err = tx.Exec(t.Context(), sqlSettings)
		s.must(err)
		rows, err := tx.Query(t.Context(), `EXPLAIN (ANALYZE, TIMING off, COSTS off) `+sqlSampleWithConsumers, pgx.QueryExecModeCacheDescribe, countAtMost)
		s.must(err)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		s.must(err)
		s.must(tx.Rollback(t.Context()))
		plan := strings.Join(lines, "\n")
		if large := regexp.MustCompile(`(Seq|Bitmap Heap) Scan on (staged_records|batches|dead_letters)`).FindString(plan); large != "" {
			t.Errorf("analyzed %v: %q in the plan\n%s", analyzed, large, plan)
		}
		node := ""
		for _, line := range lines {
			if strings.Contains(line, "->") {
				node = line
			}
			if strings.Contains(node, "on batches") && manyRemoved.MatchString(line) {
				t.Errorf("analyzed %v: the archive is walked:\n%s\n%s", analyzed, node, line)
			}
		}
		counts := regexp.MustCompile(`staged_records_pkey on staged_records\S*(?: \w+)? \(actual rows=(\S+)`).FindAllStringSubmatch(plan, -1)
		if len(counts) != 2 || !strings.HasPrefix(counts[0][1], "10001") || !strings.HasPrefix(counts[1][1], "1") {
			t.Errorf("analyzed %v: of the staged records it reads %v in the plan\n%s", analyzed, counts, plan)
		}
	}
	var r sample
	d := patient(Config{DB: s.db, Log: s.log})
	if err := d.readPostgres(t.Context(), &r); err != nil || r.Staged != countAtMost || !r.MoreAre || len(r.Consumers) != 100 ||
		r.Numbered != rows || r.Consumers[0].DeadLetters != countAtMost/10 {
		t.Errorf("the sample is %+v, %v", r, err)
	}
}
