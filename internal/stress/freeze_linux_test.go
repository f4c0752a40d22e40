package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// TestStandstill lets a process stand still that a child of a marked one has started, and
// go on.
func TestStandstill(t *testing.T) {
	t.Parallel()
	f, err := newFreezer()
	if err != nil {
		if os.Getenv("CI") != "" && os.Geteuid() == 0 {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	})
	id := startGrandchild(t)
	await.True(t, "the child to be the only one that may stand still", func() bool {
		all := family(t.Name()) // its shell is none that a test waits for
		return len(all) == 1 && len(all["sleep false"]) == 1 && all["sleep false"][0].id == id
	})
	look := func(file string) string {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", id, file))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := look("cgroup")
	if err := f.freeze(id); err != nil {
		t.Fatal(err)
	}
	says, want := "cgroup.events", "frozen 1"
	if f.controller != "" { // version 1
		says, want = f.state, f.frozen
	}
	await.True(t, "it to stand still", func() bool {
		state, err := os.ReadFile(filepath.Join(f.dir, says))
		return err == nil && strings.Contains(string(state), want) && strings.Contains(look("cgroup"), filepath.Base(f.dir))
	})
	if err := f.thaw(); err != nil {
		t.Fatal(err)
	}
	if after := look("cgroup"); after != before {
		t.Errorf("it is in %q, and was in %q", after, before)
	}
	if err := f.freeze(id); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(id, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := f.thaw(); err != nil {
		t.Errorf("one was killed: %v", err)
	}
	if err := f.freeze(1 << 30); err == nil {
		t.Error("a process that is not there stands still")
	}
}

// startGrandchild starts a process without an environment whose parent has the mark of the
// test.
func startGrandchild(t *testing.T) (id int) {
	t.Helper()
	cmd := exec.Command("sh", "-c", `env -i sleep 600 & echo $!; wait`)
	cmd.Env = append(os.Environ(), markName+"="+t.Name())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fscan(bufio.NewReader(out), &id); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range []int{id, cmd.Process.Pid} {
			if process, err := os.FindProcess(p); err == nil {
				_ = process.Kill()
			}
		}
		_ = cmd.Wait()
	})
	return id
}
