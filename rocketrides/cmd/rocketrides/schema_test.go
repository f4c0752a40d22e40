package main

import (
	"strings"
	"testing"

	"github.com/rocketrides/unilog"
	"github.com/rocketrides/unilog/internal/testenv"
)

// TestAnotherSchema runs every process on a log in a schema of another name.
func TestAnotherSchema(t *testing.T) {
	t.Parallel()
	pool, env := emptyDatabase(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t), "UNILOG_SCHEMA=trips")
	does := func(want string, args ...string) {
		t.Helper()
		if r := execute(t, env, args...); r.code != 0 || !strings.Contains(r.out, want) {
			t.Errorf("%v, want %q: %+v", args, want, r)
		}
	}
	does("up to date", "migrate")
	start(t, env, "streamer").says("leading")
	consumer := start(t, env, "consumer", "c", "--park-rejected")
	start(t, env, "api", "--port=0", "--max-backlog=1000").says("api listens")

	exec1(t, pool, `INSERT INTO rides (distance) VALUES (1.5)`)
	stage := unilog.Schema("trips").SQL(`INSERT INTO unilog.staged_records (action, object, data) VALUES ('create', 'ride', `)
	exec1(t, pool, stage+`'{"id": 1, "distance": 1.5}')`)
	consumer.says("consumed", "total_distance=1.5")
	exec1(t, pool, stage+`'{"id": 0}')`)
	consumer.says("parked in dead_letters", "offset=2")
	start(t, env, "consumer", "d", "--bootstrap").says("bootstrapped")

	does("agrees", "verify", "c", "d", untilCaughtUp)
	does("agreed already", "reconcile", "c")
	does(`create ride {"id": 0}`, "deadletters", "list")
	execute(t, env, "deadletters", "retry", "c", "2").fails(t, 1, "offset 2: ")
	does("is discarded", "deadletters", "discard", "c", "2")
	consumer.stop()
	does("c is forgotten: its total", "consumers", "forget", "c")
	execute(t, env[:3], "status").fails(t, 1, "in schema unilog")
}
