package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
)

// TestTour takes it where nobody presses Enter.
func TestTour(t *testing.T) {
	t.Parallel()
	r := execute(t, nil, "tour")
	if r.code != 0 {
		t.Fatalf("exit code %d\n%s%s", r.code, r.out, r.err)
	}
	const row = `(?: +\d+){6}\n`
	const healed = `Healed within .*s\. 0 lost, 0 doubled: the audit agrees, [\d.]+ m at consumer0 and consumer1\.\n`
	const agrees = `(?: +consumer[01].*  agrees\n){2}`
	for _, want := range []string{
		`Step 1 of 6: Book a ride\n(?s:.*)  before` + row + ` +after` + row + `Ride \d+ of [\d.]+ m is booked\.\n`,
		`Step 2 of 6: Watch it travel\n.*\napi  .*\nnumbered .*\npublished .*\nconsumer0 .*\nconsumer1  within .*s, one of the first \d+ records\n`,
		`Step 3 of 6: Empty Redis\n.*\n.*\n +before` + row + ` +emptied` + row + ` +after` + row + healed,
		`Step 4 of 6: Kill the streamer\n.*\n.*\n +before` + row + ` +killed` + row + ` +after` + row + healed,
		`Step 5 of 6: Freeze a consumer\n.*\n.*\n +before` + row + ` +frozen` + row + `consumer0 is \d\d+ records behind after .*\n +after` + row + healed,
		`Step 6 of 6: Look at the audit\n.*\n.*\n.*\n` + agrees + `No more bookings.*\n.*\n` + agrees + `\nThe tour is over: the audit holds\.\n$`,
	} {
		if !regexp.MustCompile(want).MatchString(r.out) {
			t.Errorf("it does not say %s:\n%s", want, r.out)
		}
	}
	for _, row := range regexp.MustCompile(`(?m)^ *[a-z]+ +(\d+) +(\d+) +(\d+) .*\d$`).FindAllStringSubmatch(r.out, -1) {
		var n [3]int
		for i := range n {
			n[i], _ = strconv.Atoi(row[i+1])
		}
		if rides, records := n[0], n[1]+n[2]; rides != records {
			t.Errorf("%d rides, and %d records: %s", rides, records, row[0])
		}
	}
	dir := regexp.MustCompile(`started in (.*)\. `).FindStringSubmatch(r.out)
	if dir == nil {
		t.Fatalf("it does not say where the servers are:\n%s", r.out)
	}
	if _, err := os.Stat(dir[1]); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left behind: %v", dir[1], err)
	}
}

// A tour whose terminal is closed leaves nothing behind.
func TestTourInterrupted(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	cmd := command(await.Context(t, "the end of the tour"), t, []string{"TMPDIR=" + temp}, "tour")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 || said.String() != "rocketrides: interrupted before it was done: run it again\n" {
		t.Errorf("exit code %d, %s", code, &said)
	}
	if left, err := filepath.Glob(filepath.Join(temp, "rocketrides-*")); len(left) > 0 || err != nil {
		t.Errorf("it leaves %v behind, %v", left, err)
	}
}

// The tour ends well only if the audit holds.
func TestTourFindsDamage(t *testing.T) {
	t.Parallel()
	db, env := database(t)
	exec1(t, db, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('consumer0', 0)`)
	exec1(t, db, `INSERT INTO consumer_states (name, total_distance) VALUES ('consumer0', 0.1)`)
	of := &tour{out: io.Discard, up: &upRun{upCmd: &upCmd{Consumers: 1}, database: cli.DatabaseFlags{DatabaseURL: env[0][len("DATABASE_URL="):]}}}
	code, line := program.Verdict(of.audit(t.Context()))
	if code != 1 || line != "rocketrides: consumer0 disagrees with the database by -0.1 m" {
		t.Errorf("a total is off, and the tour ends with %d, %q", code, line)
	}
}
