package dashboard

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/streamer"
)

// TestSampleOfPartitions sees that the figures are those of all partitions.
func TestSampleOfPartitions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	_, err := migration.Repartition(t.Context(), s.db, 4)
	s.must(err)
	streamer, err := streamer.New(streamer.Config{DB: s.db, Log: s.log, Logger: quietly})
	s.must(err)
	s.exec(sqlBook, 10) // without keys: 2, 3, 3 and 2 by their ids
	d := patient(Config{DB: s.db, Log: s.log, Audit: ridesAudit})
	var got sample
	look := func(holds func() bool) func() string {
		return func() string {
			if _, err := streamer.RunOnce(t.Context()); err != nil {
				return err.Error()
			}
			if s.must(d.readPostgres(t.Context(), &got)); holds() {
				return ""
			}
			return fmt.Sprintf("%+v", got)
		}
	}
	await.That(t, "all to be published", look(func() bool { return got.Published == 10 }))
	var at time.Time
	s.must(s.db.QueryRow(t.Context(), `SELECT now()`).Scan(&at))
	s.exec(`INSERT INTO unilog.checkpoints (name, partition, "offset", updated_at) VALUES
		('c', 0, 2, $1::timestamptz - interval '3 h'), ('c', 1, 1, $1), ('c', 3, 1, $1::timestamptz - interval '2 h')`, at)
	s.exec(`UPDATE unilog.batches
		SET staged_at = array_fill($1::timestamptz - interval '7 s' - partition * interval '1 s', ARRAY[cardinality(staged_at)])`, at)
	s.exec(`INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
		SELECT 'c', partition, 1, now(), 'create', 'ride', '', '{}', '{}', '' FROM unilog.partitions`)

	// Sessions end when nothing is asked of them for long.
	await.That(t, "all to have a leader", look(func() bool { return got.Leaders == 4 }))
	if got.Partitions != 4 || got.Leader == nil || got.Numbered != 10 || got.Published != 10 || got.First != 1 {
		t.Errorf("the sample is %+v", got)
	}
	if len(got.Consumers) != 1 {
		t.Fatalf("the consumers are %+v", got.Consumers)
	}
	c := got.Consumers[0]
	if c.Checkpoint != 4 || c.Lag != 6 || c.LagSeconds < 10 || c.Silent >= 7200 || c.DeadLetters != 4 || c.Latency == nil || *c.Latency != 8000 {
		t.Errorf("the consumer is %+v", c)
	}
	for _, known := range []int{0, 1, 4} {
		if head, err := d.readRedis(t.Context(), known); err != nil || head != 10 {
			t.Errorf("the head is %d, %v", head, err)
		}
	}

	// One that nobody leads is seen.
	s.exec(`SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND classid = 'unilog.partitions'::regclass AND objid = 3
		AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	await.True(t, "one to have no leader", func() bool {
		s.must(d.readPostgres(t.Context(), &got))
		return got.Leaders < 4
	})
	if got.Leader != nil {
		t.Errorf("%d of 4 partitions have a leader, and the sample is %+v", got.Leaders, got)
	}
}

func TestFrameOfPartitions(t *testing.T) {
	t.Parallel()
	v := sceneOf(1000, 1)
	says := func(want string, change func(*sample)) {
		t.Helper()
		s := *v.sample
		change(&s)
		v.sample = &s
		if text := strings.Join(v.lines(120, 40), "\n"); !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	says(", 4 partitions", func(s *sample) { s.Partitions, s.Leaders = 4, 4 })
	says("1 of 4 partitions have no leader: ", func(s *sample) { s.Leaders, s.Leader = 3, nil })
}
