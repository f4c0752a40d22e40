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
	execute(t, env[:3], "status").fails(t, 1, "in schema unilog), but in trips: ")
	execute(t, env[:3], "migrate").fails(t, 1, "the database has its tables in the schema trips, and none in unilog: name it by --schema")
}

// Another search_path than when the tables were made makes no second ones, and is named.
func TestAnotherSearchPath(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	exec1(t, pool, `CREATE SCHEMA elsewhere`)
	url := pool.Config().ConnString()
	separator := "?"
	if strings.Contains(url, "?") {
		separator = "&"
	}
	for _, command := range []string{"migrate", "api"} {
		here(t.Context(), t, command, "--database-url="+url+separator+"search_path=elsewhere").
			fails(t, 1, "the table rides is missing in the search_path, and is in public, ")
	}
	var there bool
	if err := pool.QueryRow(t.Context(), `SELECT to_regclass('elsewhere.rides') IS NOT NULL`).Scan(&there); err != nil || there {
		t.Errorf("a second table: %v, %v", there, err)
	}
	if r := here(t.Context(), t, "migrate", "--database-url="+url, "--schema=unilog"); r.code != 0 {
		t.Errorf("migrate: %+v", r)
	}
}
