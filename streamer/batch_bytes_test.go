package streamer_test

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/consumer"
	"github.com/rocketrides/unilog/internal/archive"
	"github.com/rocketrides/unilog/internal/world"
)

// TestTinyRecordsThenLargeOnes has records after tiny ones that are large, or that
// Postgres writes out a thousand times as long as it keeps them.
func TestTinyRecordsThenLargeOnes(t *testing.T) {
	t.Parallel()
	const tiny, large = 200, 8
	for name, data := range map[string]string{
		"text":   `"` + strings.Repeat("x", 1_000_000) + `"`,
		"digits": `[` + strings.Repeat("1e131071, ", 6) + `1e131071]`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := world.SetupOnRedis(t)
			w.Exec(`INSERT INTO unilog.staged_records (action, object, data) SELECT 'note', 'size', CASE WHEN n <= $1 THEN '1' ELSE $2::text::jsonb END
				FROM generate_series(1, $1 + $3::integer) AS n ORDER BY n`, tiny, data, large)
			s := w.Streamer()
			n, err := w.Patiently(s.RunOnce)
			w.Must(err)
			if n >= tiny+large {
				t.Errorf("a step numbers %d records", n)
			}
			if next := s.NextStep(); next > 2*n {
				t.Errorf("a step has numbered %d records, and the next one reads %d to see how large they are", n, next)
			}
			w.Drain(s)
			w.WantCount("published", world.Query[int](w, `SELECT published_offset FROM unilog.partitions`), tiny+large)
			if most := world.Query[int](w, `SELECT max(bytes) FROM unilog.batches`); most > archive.BatchBytes+unilog.MaxStoredBytes {
				t.Errorf("a batch has %d bytes", most)
			}
			applied := 0
			w.Consume(w.Consumer("sum", func(cfg *consumer.Config) { cfg.Handler = world.CountEntries(&applied) }))
			w.WantCount("applied", applied, tiny+large)
		})
	}
}
