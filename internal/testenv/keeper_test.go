package testenv

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// lingersShortly is for keepers of these tests.
const lingersShortly = 100 * time.Millisecond

// beClient says the URLs of the servers, and waits to be killed.
func beClient(dir string) {
	for _, server := range []string{"redis", "postgres"} {
		_, a, err := ask(dir, server, lingersShortly)
		if err != nil {
			a.Error = err.Error()
		}
		fmt.Println(a.URL + a.Error)
	}
	select {}
}

// client is a process that uses the shared servers of a directory.
type client struct {
	cmd  *exec.Cmd
	urls []string
}

func startClients(t *testing.T, dir string, n int) []*client {
	t.Helper()
	clients := make([]*client, n)
	outs := make([]*bufio.Reader, n)
	for i := range clients {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), "TESTENV_TEST_DIR="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		clients[i], outs[i] = &client{cmd: cmd}, bufio.NewReader(out)
		t.Cleanup(clients[i].kill)
	}
	for i, c := range clients {
		for range 2 {
			line, err := outs[i].ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			c.urls = append(c.urls, strings.TrimSpace(line))
		}
	}
	return clients
}

func (c *client) kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}

func answers(url string) bool {
	conn, err := net.Dial("unix", strings.TrimPrefix(url, "unix://"))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// Processes that begin at the same time share one pair of servers, which lasts as
// long as one of them lives, and no longer, also when all are killed.
func TestKeeper(t *testing.T) {
	t.Parallel()
	base, err := shared.base()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base.path, "keeper")
	clients := startClients(t, dir, 4)
	urls := fmt.Sprint(clients[0].urls)
	for _, c := range clients {
		if fmt.Sprint(c.urls) != urls || !answers(c.urls[0]) {
			t.Fatalf("one has %v, another %v", urls, c.urls)
		}
	}
	for _, c := range clients[1:] {
		c.kill()
	}
	more := startClients(t, dir, 1)
	clients[0].kill()
	if fmt.Sprint(more[0].urls) != urls || !answers(more[0].urls[0]) {
		t.Fatalf("a later one has %v, the first ones had %v", more[0].urls, urls)
	}
	more[0].kill()
	await.That(t, "the servers to end and their files to be gone", func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return err.Error()
		}
		names := ""
		for _, e := range entries {
			if e.Name() != "lock" && e.Name() != "keeper.log" {
				names += " " + e.Name()
			}
		}
		return names
	})
	if answers(more[0].urls[0]) {
		t.Error("Redis goes on")
	}
	// The next run begins anew.
	if c := startClients(t, dir, 1)[0]; !answers(c.urls[0]) {
		t.Errorf("a new one has %v", c.urls)
	}
	if log, err := os.ReadFile(logIn(dir)); err != nil || len(log) > 0 {
		t.Errorf("its log says %q, %v", log, err)
	}
}
