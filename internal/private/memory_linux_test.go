package private

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestQuitGivesSharedMemoryBack reads what the kernel has: of such memory, a system has a
// limited number of pieces, and those that a server leaves stay until it is started again.
func TestQuitGivesSharedMemoryBack(t *testing.T) {
	t.Parallel()
	s := run(t, StartPostgres, Options{Dir: filepath.Join(tempDir(t), "a dir")})
	pid, err := os.ReadFile(filepath.Join(s.Options().Dir, "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(pid), "\n")
	id := strings.Fields(lines[6])[1] // after its key
	has := func() bool {
		table, err := os.ReadFile("/proc/sysvipc/shm")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(table)) {
			if fields := strings.Fields(line); fields[1] == id {
				return true
			}
		}
		return false
	}
	if !has() {
		t.Fatalf("there is no shared memory %s", id)
	}
	s.Quit()
	if has() {
		t.Error("its shared memory is still there")
	}
}
