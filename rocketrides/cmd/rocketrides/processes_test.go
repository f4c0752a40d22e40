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

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// process is one that runs, and the lines that it prints.
type process struct {
	*testing.T
	cmd   *exec.Cmd
	lines chan string
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
	p := &process{t, cmd, make(chan string, 10_000)} // more than it prints while nobody reads
	go func() {
		defer close(p.lines)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			p.lines <- lines.Text()
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return p
}

// readTo reads what the process prints up to a line that is wanted, or to the
// process's end. One that hangs is seen with what it has said.
func (p *process) readTo(wanted func(line string) bool) (said string, found bool) {
	p.Helper()
	overdue := time.AfterFunc(await.Patience, func() { _ = p.cmd.Process.Kill() })
	defer overdue.Stop()
	var all strings.Builder
	for line := range p.lines {
		all.WriteString(line + "\n")
		if wanted(line) {
			return all.String(), true
		}
	}
	if !overdue.Stop() {
		p.Fatalf("waited %v for %q; it said\n%s", await.Patience, p.cmd.Args[1:], &all)
	}
	return all.String(), false
}

// says waits until the process prints a line with all of the words.
func (p *process) says(words ...string) {
	p.Helper()
	said, found := p.readTo(func(line string) bool {
		return !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) })
	})
	if !found {
		p.Fatalf("it ended without a line that says %q:\n%s", words, said)
	}
}

// rest is what the process has still to say until it has ended.
func (p *process) rest() string {
	p.Helper()
	said, _ := p.readTo(func(string) bool { return false })
	return said
}

// stop ends the process as a supervisor does, and sees that it ends well. It
// returns what the process had still to say.
func (p *process) stop() string {
	p.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.Fatal(err)
	}
	said := p.rest()
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("at SIGTERM it ended with %v:\n%s", err, said)
	}
	return said
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
		INSERT INTO unilog.staged_records (action, object, data)
		SELECT 'create', 'ride', jsonb_build_object('id', id, 'distance', distance) FROM ride`
	for i := range 20 { // each one a batch of its own, which fails or not
		exec1(t, pool, ride)
		consumer.says("consumed", fmt.Sprintf("total_distance=%d.%dm", 3*(i+1)/2, 3*(i+1)%2*5))
	}
	exec1(t, pool, `INSERT INTO unilog.staged_records (action, object, data) VALUES ('create', 'ride', '{"id": 0}')`)
	consumer.says("parked in dead_letters", "offset=21")

	api.stop()
	said := streamer.stop()
	for _, words := range []string{"simulated crash after publishing", "double send refused"} {
		if !strings.Contains(said, words) {
			t.Errorf("the streamer never said %q:\n%s", words, said)
		}
	}
	consumer.terminate()
	redis := testenv.RedisClient(t, redisURL)
	if n, err := redis.Do(t.Context(), redis.B().Xlen().Key(stream).Build()).AsInt64(); err != nil || n != 21 {
		t.Errorf("the stream %s has %d entries, %v; want 21", stream, n, err)
	}
	if r := execute(t, env, "verify", "c", untilCaughtUp); r.code != 0 {
		t.Errorf("verify: %+v", r)
	}
}
