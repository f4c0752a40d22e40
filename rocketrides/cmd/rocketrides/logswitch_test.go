package main

import (
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/redislog"
)

var moveAfter = flag.Int64("move-after", 300, "how many rides TestLogMovesToKafkaAndBack lets flow in each place")

// TestLogMovesToKafkaAndBack moves the log of running processes that fail now and
// then from Redis to Kafka, and back, under load.
func TestLogMovesToKafkaAndBack(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	stream := testenv.StreamName(t)
	kafka := "kafka://" + testenv.SharedKafka(t) + "/" + stream
	redis := testenv.SharedRedis(t)
	env = append(env, "REDIS_URL="+redis, "STREAM_NAME="+stream, "SIMULATE_FAILURES=0.1")
	start(t, env, "streamer").says("leading")
	start(t, env, "streamer")
	start(t, env, "consumer", "a")
	start(t, env, "consumer", "b")
	api, port := startAPI(t, env)
	simulator := start(t, append(env, "SIMULATE_FAILURES="), "simulator", "--rate=500", "--for=0s", fmt.Sprintf("--url=http://127.0.0.1:%d", port))
	simulator.says("created")
	published := func() (n int64) {
		if err := pool.QueryRow(t.Context(), `SELECT published_offset FROM unilog.partitions`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	flows := func() {
		t.Helper()
		before := published()
		await.True(t, "rides to flow", func() bool { return published() > before+*moveAfter })
	}
	flows()
	for _, args := range [][]string{{"--to=" + kafka}, {"--undo"}, {"--to=" + kafka}, {"--finish"}, {"--to=" + redis}, {"--finish"}} {
		r := execute(t, env, append([]string{"log", "switch"}, args...)...)
		t.Logf("log switch %s\n%s", args[0][:6], r.out)
		if r.code != 0 {
			t.Fatalf("log switch: %+v", r)
		}
		flows()
	}
	said := simulator.stop()
	api.stop()
	r := execute(t, env, "verify", "a", "b", untilCaughtUp)
	t.Logf("%s\n%s", lastLine(said), r.out)
	if r.code != 0 || !strings.Contains(said, " 0 failed") {
		t.Errorf("verify: %+v; the simulator said %s", r, lastLine(said))
	}
	// Each ride is in the log once, in Redis as in the archive, in order.
	log, err := redislog.Open(t.Context(), patient(redis), stream)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	head, err := log.Head(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	await.Equal(t, "what is recorded as published", head.Offset, published) // a moment later
	var rides int64
	if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM rides`).Scan(&rides); err != nil || rides != head.Offset {
		t.Errorf("%d rides, %v, and %d offsets", rides, err, head.Offset)
	}
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
