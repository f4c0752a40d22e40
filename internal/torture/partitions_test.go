package torture

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/rides"
)

// TestJudgePartitions breaks the promises about the log in one partition of four.
func TestJudgePartitions(t *testing.T) {
	t.Parallel()
	promises := map[string]func(*torture, context.Context) (string, bool, error){
		"once": (*torture).onceInTheLog, "gapless": (*torture).gapless, "end": (*torture).streamIsTheEnd, "order": (*torture).inOrder,
	}
	for name, c := range map[string]struct{ sql, del, broken string }{
		"nothing":         {},
		"a record lost":   {sql: `DELETE FROM log_records WHERE partition = 2 AND "offset" = 2`, broken: "once gapless end"},
		"another record":  {sql: `UPDATE log_records SET action = 'update' WHERE partition = 3 AND "offset" = 2`, broken: "end"},
		"a hole":          {del: "2-0", broken: "end"},
		"the head's loss": {sql: `UPDATE log_partitions SET next_offset = next_offset + 1 WHERE partition = 1`, broken: "gapless end"},
		"another order": {
			sql: `WITH ids AS (SELECT min((data ->> 'id')::bigint) + max((data ->> 'id')::bigint) AS total FROM log_records WHERE partition = 2 AND "offset" IN (2, 3))
				UPDATE log_records SET data = data || jsonb_build_object('id', total - (data ->> 'id')::bigint) FROM ids WHERE partition = 2 AND "offset" IN (2, 3)`,
			broken: "order end",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, stream, _ := settled(t)
			s.partition(t, 4)
			if _, err := s.db.Exec(t.Context(), c.sql); err != nil {
				t.Fatal(err)
			}
			if c.del != "" {
				if err := s.redis.Do(t.Context(), s.redis.B().Xdel().Key(stream+":2").Id(c.del).Build()).Error(); err != nil {
					t.Fatal(err)
				}
			}
			for promise, look := range promises {
				says, kept, err := look(s, t.Context())
				if err != nil || kept == strings.Contains(c.broken, promise) {
					t.Errorf("%s: kept %t: %s, %v", promise, kept, says, err)
				}
			}
		})
	}
}

// partition gives the log more partitions and books rides, until each has some.
func (t *torture) partition(test *testing.T, partitions int) {
	test.Helper()
	ctx := test.Context()
	must := func(err error) {
		test.Helper()
		if err != nil {
			test.Fatal(err)
		}
	}
	_, err := unilog.Repartition(ctx, t.db, partitions)
	must(err)
	acks, err := os.OpenFile(t.acknowledged(), os.O_APPEND|os.O_WRONLY, 0)
	must(err)
	defer acks.Close()
	distance, err := rides.ParseDistance("1.5")
	must(err)
	for range 40 {
		ack := rides.Acknowledgement{Sent: time.Now(), Distance: "1.5"}
		ride, err := rides.CreateRide(ctx, t.db, distance)
		must(err)
		ack.Answered, ack.ID, ack.Key = time.Now(), ride.ID, fmt.Sprint("key ", ride.ID)
		must(json.NewEncoder(acks).Encode(ack))
	}
	streamer, err := unilog.NewStreamer(unilog.StreamerConfig{DB: t.db, Log: t.log, Logger: slog.New(slog.DiscardHandler)})
	must(err)
	ended, done := context.WithCancel(ctx)
	running := make(chan error, 1)
	go func() { running <- streamer.Run(ended) }()
	for rest := true; rest; {
		must(t.db.QueryRow(ctx, `
			SELECT EXISTS (SELECT FROM staged_log_records) OR EXISTS (SELECT FROM log_partitions WHERE published_offset < next_offset - 1)`).Scan(&rest))
		time.Sleep(time.Millisecond)
	}
	done()
	must(<-running)
}
