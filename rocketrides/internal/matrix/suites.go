package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// hang is what only a hang takes.
const hang = 15 * time.Minute

// row is what came of a server.
type row struct {
	server
	found          string // what the server says of itself
	passed, failed int
	torture        string
	seconds        int
	problems       []string // what failed, and where is more
	words          []string // of those that refuse it
}

var result = regexp.MustCompile(`(?m)^--- (PASS|FAIL|SKIP): (\S+)`)

// workplace is where tests are compiled and run, and what they said is kept.
type workplace struct{ logs, tests string }

// compile makes the test binaries of all suites, and the command.
func (w *workplace) compile(ctx context.Context, chosen []server) error {
	suites := map[string]bool{}
	for _, c := range chosen {
		for _, s := range c.suites {
			suites[s.pkg] = true
		}
	}
	args := []string{"test", "-c", "-ldflags=-w", "-o", w.tests + "/"}
	for pkg := range suites {
		args = append(args, "./"+pkg)
	}
	if len(suites) > 0 {
		if said, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("compile the tests: %w: %s", err, said)
		}
	}
	for _, command := range []string{"./rocketrides/cmd/rocketrides", "./cmd/unilog"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", w.tests+"/", command)
		if said, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", command, err, said)
		}
	}
	return nil
}

func slug(pkg string) string {
	return strings.ReplaceAll(cmp.Or(strings.TrimPrefix(pkg, "."), "unilog"), "/", "-")
}

// run runs the suites of a server, two at a time as go test would, and torture.
func (w *workplace) run(ctx context.Context, r *row, env []string) {
	dir := filepath.Join(w.logs, r.name)
	var mu sync.Mutex
	var group sync.WaitGroup
	seats := make(chan struct{}, 2)
	for _, s := range r.suites {
		seats <- struct{}{}
		group.Go(func() {
			defer func() { <-seats }()
			log := filepath.Join(dir, slug(s.pkg)+".log")
			passed, failures := w.test(ctx, r.server, s, env, log)
			mu.Lock()
			defer mu.Unlock()
			r.passed += passed
			r.failed += len(failures)
			for _, f := range failures {
				r.problems = append(r.problems, fmt.Sprintf("%s: %s %s: see %s", r.name, s.pkg, f, log))
			}
		})
	}
	group.Wait()
	if r.engine != "" {
		r.torture = "kept"
		log := filepath.Join(dir, "torture.log")
		if !w.execute(ctx, ".", env, log, filepath.Join(w.tests, "rocketrides"), "torture", "--for=20s", "--engine="+r.engine) {
			r.torture = "FAILED"
			r.problems = append(r.problems, r.name+": torture: see "+log)
		}
	}
}

// test runs one suite. A test that is skipped has failed, as nobody would see it.
func (w *workplace) test(ctx context.Context, s server, u suite, env []string, log string) (passed int, failures []string) {
	args := []string{"-test.v", "-test.parallel=16", "-test.shuffle=on", "-test.timeout=" + hang.String()}
	var skip []string
	if u.run != "" {
		args = append(args, "-test.run="+u.run)
	} else {
		skip = append(skip, elsewhere)
	}
	if s.without != "" {
		skip = append(skip, s.without)
	}
	if len(skip) > 0 {
		args = append(args, "-test.skip="+strings.Join(skip, "|"))
	}
	ok := w.execute(ctx, u.pkg, env, log, filepath.Join(w.tests, path.Base(cmp.Or(strings.TrimPrefix(u.pkg, "."), "unilog"))+".test"), args...)
	said, err := os.ReadFile(log)
	if err != nil {
		return 0, []string{err.Error()}
	}
	passed, failures = count(said)
	if !ok && len(failures) == 0 {
		failures = []string{"ended with an error"}
	}
	if passed+len(failures) == 0 {
		failures = []string{"ran no test"}
	}
	return passed, failures
}

func count(said []byte) (passed int, failures []string) {
	for _, m := range result.FindAllSubmatch(said, -1) {
		switch string(m[1]) {
		case "PASS":
			passed++
		case "FAIL":
			failures = append(failures, string(m[2]))
		default:
			failures = append(failures, string(m[2])+" (skipped)")
		}
	}
	return passed, failures
}

// execute tells whether a program ended without an error.
func (w *workplace) execute(ctx context.Context, dir string, env []string, log, program string, args ...string) bool {
	out, err := os.Create(log)
	if err != nil {
		return false
	}
	defer out.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = dir, env, out, out
	return cmd.Run() == nil
}

// number is a version in what a program says of itself.
var number = regexp.MustCompile(`[0-9]+\.[0-9.]+`)

// version asks a server's program.
func version(ctx context.Context, env []string, bin string, s server) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(bin, s.program), "--version")
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s does not run: %w: %s", s.program, err, out)
	}
	found := string(number.Find(out))
	if found != s.version && !strings.HasPrefix(found, s.version+".") {
		return "", fmt.Errorf("%s is version %q: it is another one than %s", s.program, found, s.name)
	}
	return found, nil
}
