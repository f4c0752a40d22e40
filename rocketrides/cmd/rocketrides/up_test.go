package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/documents"
	"github.com/rocketrides/unilog/internal/freeport"
)

// TestUp runs the whole system as a person does, failures and all.
func TestUp(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// Root's Postgres has to pass.
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	data := filepath.Join(dir, "data")
	up := func(args ...string) (string, error) {
		// Kept short of the test's own end, lest it leave servers running.
		ctx, cancel := context.WithCancel(await.Context(t, "up to end"))
		defer cancel()
		// What is set for processes elsewhere is none of up's.
		env := []string{"ADMIN_LISTEN=nowhere", "API_TLS_CERT=/nowhere", "API_TLS_KEY=/nowhere", "API_CA=/nowhere"}
		cmd := command(ctx, t, env, append([]string{"up", "--data-dir", data}, args...)...)
		cmd.Dir = dir
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	said := ""
	failures := func() bool {
		return strings.Contains(said, "simulated crash after publishing") && strings.Contains(said, "simulated crash before saving")
	}
	// The second run goes on from the first one's state, with one consumer less,
	// the third does not.
	for _, more := range [][]string{{"--consumers=3", "--for=4s"}, {"--seed=7", fmt.Sprintf("--dashboard-port=%d", freePort(t))}, {"--fresh", "--no-failures"}} {
		out, err := up(append([]string{fmt.Sprintf("--port=%d", port), "--rate=100", "--for=1s"}, more...)...)
		if err != nil || !strings.Contains(out, "up        | the audit holds\n") {
			t.Fatalf("up %v: %v\n%s", more, err, out)
		}
		if strings.Contains(out, " died ") {
			t.Errorf("up %v: a process died\n%s", more, out)
		}
		count := func(says string) int { return strings.Count(out, " "+says) }
		for _, line := range []string{
			fmt.Sprintf("batches failed:       %d after publishing, %d before saving, on purpose\n",
				count("simulated crash after publishing"), count("simulated crash before saving")),
			fmt.Sprintf("double sends refused: %d\n", count("double send refused")),
			"audit:                holds\n",
		} {
			if !strings.Contains(out, line) {
				t.Errorf("up %v: it does not say %q\n%s", more, line, out)
			}
		}
		failed := strings.Contains(out, "simulated")
		if failed && more[0] == "--fresh" {
			t.Errorf("up %v: simulated failures", more)
		}
		said += out
	}
	// On a busy machine, a second has few batches.
	for seed := 8; !failures(); seed++ {
		out, err := up(fmt.Sprintf("--port=%d", port), fmt.Sprintf("--seed=%d", seed), "--rate=100", "--for=4s")
		if err != nil || seed > 50 {
			t.Fatalf("not both of the simulated failures (%v)\n%s\n%s", err, said, out)
		}
		said += out
	}
	const doc = "docs/rocketrides.md"
	documents.CheckLog(t, doc, documents.Output(t, doc, "make run"), strings.ReplaceAll(said, data, "/home/you/unilog/.rocketrides"))
	for _, wrong := range []string{"--rate=0", "--consumers=0", "--port=0", "--for=-1s", "--dashboard-port=5005"} {
		if out, err := up(wrong); err == nil {
			t.Errorf("%s is taken:\n%s", wrong, out)
		}
	}
}

func freePort(*testing.T) int { return freeport.Next() }
