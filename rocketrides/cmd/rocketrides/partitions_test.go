package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/joho/godotenv"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/status"
)

// awaitStatus looks until the status is as wanted, and returns it.
func awaitStatus(t *testing.T, env []string, is func(*status.Status) bool) (s *status.Status) {
	t.Helper()
	cmds := runs(t, append([]string{"status"}, flagsOf(env)...))
	db, err := cmds.Status.Connect(t.Context(), program)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.ClosePool(db)
	log, err := cmds.Status.LogFlags.Open(t.Context(), program, db, "")
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	await.That(t, "the status", func() string {
		if s, err = status.Read(t.Context(), db, "", log); err != nil {
			t.Fatal(err)
		}
		if is(s) {
			return ""
		}
		return fmt.Sprintf("%+v", s)
	})
	return s
}

// TestPartitionedProcesses runs each process, the streamer twice, on a log of
// several partitions.
func TestPartitionedProcesses(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t))
	place := env
	env = append(env, "SIMULATE_FAILURES=0.1", "SEED=1")
	const partitions = 4
	if r := execute(t, env, "migrate", fmt.Sprintf("--partitions=%d", partitions)); r.code != 0 {
		t.Fatalf("migrate: %+v", r)
	}
	streamers := []*scraped{startScraped(t, env, "streamer"), startScraped(t, env, "streamer")}
	consumers := []*process{start(t, env, "consumer", "c1"), start(t, env, "consumer", "c2")}
	port := freePort(t)
	api := start(t, env, "api", fmt.Sprintf("--port=%d", port))
	api.says("api listens")
	for _, s := range streamers {
		s.until(map[string]float64{"unilog_leader": partitions / 2, "unilog_leaders": partitions, "unilog_partitions": partitions})
	}
	awaitStatus(t, place, func(s *status.Status) bool { return len(s.Consumers) == len(consumers) })
	// Nothing has to be stopped for that.
	if r := execute(t, env, "migrate", "--roles"); r.code != 0 {
		t.Fatalf("migrate --roles beside streamers: %+v", r)
	}
	if r := execute(t, nil, "simulator", fmt.Sprintf("--url=http://127.0.0.1:%d", port), "--rate=100", "--for=1s"); r.code != 0 {
		t.Fatalf("simulator: %+v", r)
	}
	if r := execute(t, env, "verify", "c1", "c2"); r.code != 0 { // the equation holds at every instant
		t.Errorf("verify: %+v", r)
	}
	if r := execute(t, env, "verify", "c1", "c2", untilCaughtUp); r.code != 0 {
		t.Errorf("verify: %+v", r)
	}
	status := awaitStatus(t, place, func(s *status.Status) bool {
		for _, c := range s.Consumers {
			if c.Lag != 0 || c.Processes != 1 {
				return false
			}
		}
		return s.Leaders() == partitions && s.Staged == 0 && s.Published == s.Numbered && s.Log.Offset == s.Numbered
	})
	for _, p := range status.Partitions {
		if p.Log.Offset == 0 || p.Log.Offset != p.Numbered || p.Log.Partitions != partitions {
			t.Errorf("partition %+v", p)
		}
	}
	for _, words := range []string{fmt.Sprintf("%[1]d of %[1]d partitions have one", partitions), fmt.Sprintf("log head   %d\n", status.Numbered)} {
		untilSaid(t, env, words, "status")
	}
	for _, p := range append(consumers, api, streamers[0].process, streamers[1].process) {
		if said := p.stop(); t.Failed() {
			t.Fatalf("it said\n%s", said)
		}
	}
	if r := execute(t, env, "verify", "c1", "c2"); r.code != 0 {
		t.Errorf("verify: %+v", r)
	}
}

// TestUpPartitions sees that up gives its own database the partitions asked for,
// and leaves them as they are if none are.
func TestUpPartitions(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { // root's Postgres has to pass
		t.Fatal(err)
	}
	data := filepath.Join(dir, "data")
	for _, more := range [][]string{{"--partitions=4"}, nil} {
		up := start(t, nil, append([]string{"up", "--servers-only", "--data-dir", data}, more...)...)
		if more != nil {
			up.says("the log has 4 partitions now (1 before)")
		}
		up.says("look:")
		env, err := godotenv.Read(filepath.Join(data, "env"))
		if err != nil {
			t.Fatal(err)
		}
		status := awaitStatus(t, []string{"DATABASE_URL=" + env["DATABASE_URL"], "REDIS_URL=" + env["REDIS_URL"]}, func(*status.Status) bool { return true })
		if n := len(status.Partitions); n != 4 {
			t.Errorf("up %v: %d partitions", more, n)
		}
		up.stop()
	}
}
