package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/cmd/unilog/doctor"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/testenv"
)

func TestDoctor(t *testing.T) {
	t.Parallel()
	_, env := database(t) // on a server that syncs nothing
	env = append(env, "REDIS_URL="+testenv.Redis(t).URL())
	r := execute(t, env, "doctor")
	r.fails(t, 1, "2 of 25 findings are unsafe")
	for _, line := range []string{
		"unsafe  fsync is off: ", ": set fsync = on and reload\n", "ok      appendfsync is always: ",
		"ok      the tables are up to date: ",
	} {
		if !strings.Contains(r.out, line) {
			t.Errorf("%q is not in\n%s", line, r.out)
		}
	}
	r = execute(t, env, "doctor", "--json")
	var findings []doctor.Finding
	if err := json.Unmarshal([]byte(r.out), &findings); err != nil || len(findings) != 25 || r.code != 1 {
		t.Errorf("doctor --json: %v, %+v", err, r)
	}
}

func TestDoctorOnSafeServers(t *testing.T) {
	t.Parallel()
	postgres := testenv.Postgres(t)
	if err := postgres.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := postgres.Options()
	o.Durable = true
	postgres, err := private.StartPostgres(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = postgres.Kill()
		<-postgres.Done()
	})
	env := []string{"DATABASE_URL=" + postgres.URL(), "REDIS_URL=" + testenv.Redis(t).URL(), "ALLOW_UNSAFE="}
	execute(t, env, "doctor").fails(t, 1, "1 of 24 findings are unsafe") // no tables yet
	if r := execute(t, env, "migrate"); r.code != 0 {
		t.Fatalf("migrate: %+v", r)
	}
	if r := execute(t, env, "doctor"); r.code != 0 || r.err != "" {
		t.Errorf("doctor: %+v", r)
	}
	for says, args := range map[string][]string{
		"api listens": {"api", "--port=0"}, "leading": {"streamer"}, "admin listens": {"consumer", "c", "--admin-listen=127.0.0.1:0"},
	} {
		p := start(t, env, args...)
		p.says(says)
		p.terminate()
	}
}

// A process does not start on what is unsafe for it, unless it is told to.
func TestStartOnUnsafeServers(t *testing.T) {
	t.Parallel()
	pool, env := database(t) // on a server that syncs nothing
	exec1(t, pool, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$`)
	exec1(t, pool, `ALTER SEQUENCE unilog.staged_records_id_seq CACHE 10`)
	redis := testenv.Redis(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru", "--appendonly", "no")
	env = append(env, "REDIS_URL="+redis.URL(), "ALLOW_UNSAFE=")
	if r := execute(t, env, "status"); !strings.Contains(r.out, "- unsafe: fsync is off: ") || !strings.Contains(r.out, "- unsafe: maxmemory-policy is allkeys-lru") {
		t.Errorf("status: %+v", r)
	}
	if r := execute(t, append(env, "ALLOW_UNSAFE=true"), "status"); strings.Contains(r.out, "unsafe: ") {
		t.Errorf("status, though that is allowed: %+v", r)
	}
	for process, says := range map[string][]string{
		"api --port=0": {"fsync is off", "full_page_writes is off", "synchronous_commit is off", "CACHE 10"},
		"streamer":     {"fsync is off", "full_page_writes is off", "CACHE 10", "maxmemory-policy is allkeys-lru", "advice: appendonly is no"},
		"consumer c":   {"fsync is off", "full_page_writes is off"},
	} {
		t.Run(process, func(t *testing.T) {
			t.Parallel()
			args := strings.Fields(process)
			r := execute(t, env, args...)
			r.fails(t, 1, "start with --allow-unsafe")
			for _, unsafe := range []string{"fsync", "full_page_writes", "synchronous_commit", "maxmemory-policy"} {
				heard := strings.Contains(strings.Join(says, " "), unsafe+" is ")
				if strings.Contains(r.err, unsafe+" is ") != heard {
					t.Errorf("%s must be said: %v; it said\n%s", unsafe, heard, r.err)
				}
			}
			p := start(t, env, append(args, "--allow-unsafe")...)
			for _, words := range says {
				p.says(words)
			}
			p.stop()
		})
	}
}
