package bench

import (
	"os"
	"os/exec"
	"testing"
)

// What a process and its children compute is counted.
func TestCPUOf(t *testing.T) {
	t.Parallel()
	pid := os.Getpid()
	before, err := cpuOf(pid)
	if err != nil {
		t.Fatal(err)
	}
	for after := before; after <= before; {
		if err := exec.CommandContext(t.Context(), "sh", "-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done").Run(); err != nil {
			t.Fatal(err)
		}
		if after, err = cpuOf(pid); err != nil {
			t.Fatal(err)
		}
	}
}
