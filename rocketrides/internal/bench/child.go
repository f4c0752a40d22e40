package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/internal/private/child"
)

// program is a running process of Rocket Rides.
type program struct {
	*child.Process
	name   string
	output string // a file
}

// stopTimeout bounds the end of a process or server.
const stopTimeout = 15 * time.Second

// start starts a process, a subcommand of this program, on this world.
func (w *world) start(args ...string) (*program, error) {
	out, err := os.CreateTemp(w.dir, args[0]+"-*.log")
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(w.Command, args...)
	cmd.Dir = w.dir // has no .env
	cmd.Env = append(os.Environ(), "DATABASE_URL="+w.databaseURL, "REDIS_URL="+w.redisURL, "LOG_URL="+w.logURL, "STREAM_NAME="+stream, "LOG_FORMAT=text")
	// What else may be set there would change what is measured.
	for _, name := range []string{"UNILOG_SCHEMA", "SIMULATE_FAILURES", "ADMIN_LISTEN", "VERBOSE", "LOG_LEVEL", "RETENTION", "KEEP_RECORDS", "PARK_REJECTED"} {
		cmd.Env = append(cmd.Env, name+"=")
	}
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	p := &program{process, args[0], out.Name()}
	w.programs = append(w.programs, p)
	return p, nil
}

// stop ends all processes in order.
func (w *world) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	var errs []error
	for _, p := range w.programs {
		if err := p.Stop(ctx, syscall.SIGTERM); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.name, err))
		}
	}
	w.programs = nil
	return errors.Join(errs...)
}

// lastWords is the last line that a process has printed.
func (p *program) lastWords() string {
	b, _ := os.ReadFile(p.output)
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

var highWater = regexp.MustCompile(`(?m)^VmHWM:\s+([0-9]+) kB$`)

// memory returns the most memory that a process ever had, in MB, where the
// system tells: on Linux.
func (p *program) memory() (mb float64, ok bool) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
	m := highWater.FindSubmatch(b)
	if err != nil || m == nil {
		return 0, false
	}
	kib, err := strconv.ParseFloat(string(m[1]), 64)
	return kib * 1024 / 1e6, err == nil
}

// cpu returns the time for which a process has computed, where the system
// tells: on Linux. It adds up its threads, which are told more exactly.
func (p *program) cpu() (total time.Duration, ok bool) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p.Pid()))
	if err != nil || len(files) == 0 {
		return 0, false
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			continue // that thread has just ended
		}
		first, _, _ := strings.Cut(string(b), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, false
		}
		total += time.Duration(ns)
	}
	return total, true
}
