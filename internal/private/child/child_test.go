//go:build unix

package child

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

var ties = map[string]tie{"platform": platformTie, "pipe": tieByPipe}

// TestMain doubles as the parent that TestOrphan kills.
func TestMain(m *testing.M) {
	if name := os.Getenv("CHILD_TEST_PARENT"); name != "" {
		parent(ties[name])
	}
	goleak.VerifyTestMain(m)
}

// parent starts a child that holds standard input's pipe, says its pid, and
// waits to be killed.
func parent(tie tie) {
	cmd := exec.Command("sh", "-c", "echo $$; exec sleep 1000")
	cmd.Stdout = os.Stdout
	if _, err := start(cmd, syscall.SIGKILL, tie); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	select {}
}

// TestOrphan relies on the read end of the child's standard output: it ends
// when the last process that holds the write end has gone.
func TestOrphan(t *testing.T) {
	t.Parallel()
	for name := range ties {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "CHILD_TEST_PARENT="+name)
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			out := bufio.NewReader(stdout)
			line, err := out.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(out); err != nil || len(rest) > 0 {
				t.Fatalf("rest %q, %v", rest, err)
			}
			_ = cmd.Wait()
			t.Logf("child %s has ended", strings.TrimSpace(line))
		})
	}
}

func TestStatusAndSignals(t *testing.T) {
	t.Parallel()
	for name, tie := range ties {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := func(script string) *Process {
				p, err := start(exec.Command("sh", "-c", script, "sh", "a b", "c"), syscall.SIGKILL, tie)
				if err != nil {
					t.Fatal(err)
				}
				return p
			}
			p := run(`test "$1$2" = "a bc" && exit 7`)
			<-p.Done()
			if got := fmt.Sprint(p.Err()); got != "exit status 7" {
				t.Errorf("got %s", got)
			}
			p = run("exec sleep 1000")
			if err := p.Stop(t.Context(), syscall.SIGTERM); err != nil {
				t.Error(err)
			}
			if got := fmt.Sprint(p.Err()); got != "signal: terminated" {
				t.Errorf("got %s", got)
			}
			if err := p.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		})
	}
}

// A child that ignores the signal is killed when the context ends.
func TestStopKills(t *testing.T) {
	t.Parallel()
	for name, tie := range ties {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			cmd := exec.Command("sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1000; done")
			cmd.Stdout = w
			p, err := start(cmd, syscall.SIGKILL, tie)
			w.Close()
			if err != nil {
				t.Fatal(err)
			}
			if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := p.Stop(ctx, syscall.SIGTERM); err == nil {
				t.Error("no error")
			}
			if got := fmt.Sprint(p.Err()); got != "signal: killed" {
				t.Errorf("got %s", got)
			}
			// The shell's own child is in its process group.
			_ = syscall.Kill(-p.Pid(), syscall.SIGKILL)
		})
	}
}

func TestNotFound(t *testing.T) {
	t.Parallel()
	for name, tie := range ties {
		if _, err := start(exec.Command("no-such-command-anywhere"), syscall.SIGKILL, tie); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
