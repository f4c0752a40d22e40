package main

import (
	"bufio"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/rocketrides/unilog/internal/testenv"
)

// process is one that runs, and the lines that it prints.
type process struct {
	*testing.T
	cmd     *exec.Cmd
	lines   chan string
	overdue *time.Timer
}

func start(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	// It outlives the test's context, lest that end it first.
	cmd := command(context.WithoutCancel(t.Context()), t, env, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// One that hangs is seen with what it has said.
	overdue := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	p := &process{t, cmd, make(chan string, 10_000), overdue} // more than it prints
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() {
		overdue.Stop()
		_ = cmd.Process.Kill()
	})
	return p
}

// says waits until the process prints a line with all of the words.
func (p *process) says(words ...string) {
	p.Helper()
	var seen []string
	for line := range p.lines {
		seen = append(seen, line)
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return
		}
	}
	p.Fatalf("it ended without a line that says %q:\n%s", words, strings.Join(seen, "\n"))
}

// stop ends the process as a supervisor does, and sees that it ends well. It
// returns what the process had still to say.
func (p *process) stop() string {
	p.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.Fatal(err)
	}
	var rest strings.Builder
	for line := range p.lines {
		rest.WriteString(line + "\n")
	}
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("at SIGTERM it ended with %v", err)
	}
	return rest.String()
}

// TestProcesses runs each process on servers of one's own, as from a Procfile.
func TestProcesses(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	stream, redisURL := testenv.StreamName(t), testenv.SharedRedis(t)
	env = append(env, "REDIS_URL="+redisURL, "STREAM_NAME="+stream, "SIMULATE_FAILURES=0.5", "SEED=1")

	streamer := start(t, env, "streamer")
	streamer.says("leading")
	consumer := start(t, env, "consumer", "c", "--park-rejected")
	api := start(t, env, "api", "--port=0")
	api.says("api listens")

	ride := `WITH ride AS (INSERT INTO rides (distance) VALUES (1.5) RETURNING id, distance)
		INSERT INTO staged_log_records (action, object, data)
		SELECT 'create', 'ride', jsonb_build_object('id', id, 'distance', distance) FROM ride`
	for i := range 20 { // each one a batch of its own, which fails or not
		exec1(t, pool, ride)
		consumer.says("consumed", fmt.Sprintf("total_distance=%d.%dm", 3*(i+1)/2, 3*(i+1)%2*5))
	}
	exec1(t, pool, `INSERT INTO staged_log_records (action, object, data) VALUES ('create', 'ride', '{"id": 0}')`)
	consumer.says("parked in dead_letters", "offset=21")

	api.stop()
	said := streamer.stop()
	for _, words := range []string{"simulated crash after publishing", "double send refused"} {
		if !strings.Contains(said, words) {
			t.Errorf("the streamer never said %q:\n%s", words, said)
		}
	}
	if said := consumer.stop(); strings.Contains(said, "trying again") {
		t.Errorf("the consumer said\n%s", said)
	}
	option, err := rueidis.ParseURL(redisURL)
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	redis, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer redis.Close()
	if n, err := redis.Do(t.Context(), redis.B().Xlen().Key(stream).Build()).AsInt64(); err != nil || n != 21 {
		t.Errorf("the stream %s has %d entries, %v; want 21", stream, n, err)
	}
	if r := execute(t, env, "verify", "c", "--wait=10s"); r.code != 0 {
		t.Errorf("verify: %+v", r)
	}
}
