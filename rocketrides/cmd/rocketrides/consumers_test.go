package main

import (
	"regexp"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
)

func TestLookingAfterConsumers(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `INSERT INTO rides (distance) VALUES (1.50), (2)`)
	exec1(t, pool, `UPDATE unilog.partitions SET next_offset = 3, published_offset = 2`)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('c', 0, 2)`)
	exec1(t, pool, `INSERT INTO consumer_states (name, total_distance) VALUES ('c', 77)`)
	exec1(t, pool, `INSERT INTO unilog.members (name, member, seen_at) VALUES ('c', gen_random_uuid(), now() - interval '1 h')`)
	exec1(t, pool, `INSERT INTO unilog.leases (name, partition, member) VALUES ('c', 0, gen_random_uuid())`)

	says := func(want string, args ...string) {
		t.Helper()
		r := execute(t, env, args...)
		if r.code != 0 || !regexp.MustCompile(want).MatchString(strings.Join(strings.Fields(r.out), " ")) {
			t.Errorf("%v: exit code %d, want %q in:\n%s%s", args, r.code, want, r.out, r.err)
		}
	}
	// Hours, so that no minute that the test takes makes a difference.
	exec1(t, pool, `UPDATE unilog.checkpoints SET updated_at = now() - interval '50 h'`)
	says(`c 2 0 0\.0 0 50h\d+m\d+s ago`, "consumers", "list")
	says(`c was at 77 m; corrected by -73\.5 m`, "reconcile", "c")
	says(`c agreed already: its total is 3\.5 m`, "reconcile", "c")
	says(`c 3\.50 3\.5 0 0 0 0 agrees`, "verify")
	says("c is forgotten", "consumers", "forget", "c")
	var left int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM unilog.members) + (SELECT count(*) FROM unilog.leases)`).Scan(&left); err != nil || left > 0 {
		t.Errorf("%d members and leases are left, %v", left, err)
	}
	execute(t, env, "reconcile", "c").fails(t, 1, "no consumer c has registered")
	execute(t, env, "consumers", "forget", "c").fails(t, 1, "no consumer c has registered")
}

func TestLookingAfterDeadLetters(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `INSERT INTO rides (distance) VALUES (1.50), (2), (4), (8)`)
	exec1(t, pool, `UPDATE unilog.partitions SET next_offset = 6, published_offset = 5`)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('c', 0, 5)`)
	exec1(t, pool, `INSERT INTO consumer_states (name, total_distance) VALUES ('c', 0)`)
	exec1(t, pool, `
		INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
		SELECT 'c', 0, n, now(), 'create', 'ride', '', jsonb_build_object('distance', (ARRAY[1.50, 2, 4, NULL, 8])[n]), '{}', 'no road' || E'\nstack'
		FROM generate_series(1, 5) AS n`)
	r := execute(t, env, "deadletters", "list")
	if r.code != 0 || strings.Count(r.out, "\n") != 6 || !strings.Contains(r.out, `create ride {"distance": 1.50}  no road`) {
		t.Errorf("deadletters list: %+v", r)
	}
	if r := execute(t, env, "deadletters", "retry", "c", "1", "2"); r.code != 0 || r.out != "c: offset 1 is applied\nc: offset 2 is applied\n" {
		t.Errorf("deadletters retry: %+v", r)
	}
	if r := execute(t, env, "deadletters", "discard", "c", "3"); r.code != 0 || r.out != "c: offset 3 is discarded\n" {
		t.Errorf("deadletters discard: %+v", r)
	}
	execute(t, env, "deadletters", "retry", "c", "3").fails(t, 1, "c has parked no record at offset 3")
	r = execute(t, env, "deadletters", "retry", "c", "--all")
	if r.fails(t, 1, "1 of 2 stay parked, the first of them offset 4: record 4 is a ride without a distance"); r.out != "c: offset 5 is applied\n" {
		t.Errorf("deadletters retry --all: %+v", r)
	}
	if r := execute(t, env, "deadletters", "discard", "c", "--all"); r.code != 0 || r.out != "c: offset 4 is discarded\n" {
		t.Errorf("deadletters discard --all: %+v", r)
	}
	execute(t, env, "deadletters", "retry", "c", "--all").fails(t, 1, "c has parked no record: see")
	execute(t, env, "deadletters", "retry", "c", "--all", "4").fails(t, 2, "give either it or offsets")
	execute(t, env, "deadletters", "discard", "c").fails(t, 2, "Give their offsets, or --all")
	if r := execute(t, env, "verify"); r.code != 0 || !strings.Contains(r.out, "11.50") {
		t.Errorf("verify: %+v", r)
	}
}

// What another program's consumer makes of a record is not known here: nothing is
// applied in its place, and none of its records is lost.
func TestOtherProgramsConsumersAreRefused(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	exec1(t, pool, `UPDATE unilog.partitions SET next_offset = 6, published_offset = 5`)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition, "offset") VALUES ('billing', 0, 5)`)
	exec1(t, pool, `
		INSERT INTO unilog.dead_letters (consumer, partition, "offset", staged_at, action, object, key, data, headers, error)
		VALUES ('billing', 0, 5, now(), 'send', 'invoice', '', '{}', '{}', 'no address')`)
	for _, args := range [][]string{{"deadletters", "retry", "billing", "5"}, {"reconcile", "billing"}} {
		r := execute(t, env, args...)
		r.fails(t, 1, "billing is no consumer of Rocket Rides")
		if r.out != "" {
			t.Errorf("%v says %s", args, r.out)
		}
	}
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t), "ALLOW_UNSAFE=true")
	execute(t, env, "consumer", "billing").fails(t, 1, "billing is no consumer of Rocket Rides")
	var letters, states int
	err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM unilog.dead_letters), (SELECT count(*) FROM consumer_states)`).Scan(&letters, &states)
	if err != nil || letters != 1 || states != 0 {
		t.Errorf("there are %d dead letters and %d totals, %v; want 1 and none", letters, states, err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	with := func(redis string) []string { return append(env[:len(env):len(env)], "REDIS_URL="+redis) }
	r := untilSaid(t, with(testenv.SharedRedis(t)+"?db=0"), "log head   0", "status")
	if !strings.Contains(r.out, "start one with `rocketrides streamer`") {
		t.Errorf("status: %+v", r)
	}
	exec1(t, pool, `UPDATE unilog.partitions SET trouble = 'append to the log: no', troubled_at = now() - interval '400000 s'`)
	r = execute(t, with(testenv.SharedRedis(t)), "status")
	if r.code != 0 || !strings.Contains(r.out, "- the streamer has failed for 40") || !strings.Contains(r.out, ": append to the log: no\n") {
		t.Errorf("status of a streamer in trouble: %+v", r)
	}
	r = execute(t, with("unix:///nowhere"), "status", "--json")
	if !strings.Contains(r.out, `"trouble":"append to the log: no","troubled_for":40`) {
		t.Errorf("status of a streamer in trouble, as JSON: %+v", r)
	}
	if r.code != 0 || !strings.Contains(r.out, `"log_error":"no answer from Redis; check REDIS_URL: `) {
		t.Errorf("status without Redis: %+v", r)
	}
	execute(t, []string{"DATABASE_URL=postgres:///x?host=/nowhere"}, "status").fails(t, 1, "no answer from Postgres")
}
