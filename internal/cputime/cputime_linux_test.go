package cputime

import (
	"os"
	"os/exec"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// What a process and its children compute is counted.
func TestOf(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	before, err := Of(pid)
	if err != nil {
		t.Fatal(err)
	}
	await.True(t, "the child's work to be counted", func() bool {
		if err := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").Run(); err != nil {
			t.Fatal(err)
		}
		after, err := Of(pid)
		if err != nil {
			t.Fatal(err)
		}
		return after > before
	})
}
