package main

import (
	"bufio"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
)

// TestHangupEndsInOrder closes the terminal of a process, also of one that nohup has made
// deaf to that.
func TestHangupEndsInOrder(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		shell string // runs the program
		deaf  bool
	}{
		"at a terminal": {`exec "$0" "$@"`, false},
		"under nohup":   {`trap '' HUP; exec "$0" "$@"`, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pool, env := database(t)
			cmd := command(await.Context(t, "the end of the streamer"), t, env, "streamer")
			cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", test.shell}, cmd.Args...)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Stderr = cmd.Stdout
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(out)
			for line := ""; !strings.Contains(line, "leading") && err == nil; {
				line, err = lines.ReadString('\n')
			}
			signal := func(s syscall.Signal) {
				if err := cmd.Process.Signal(s); err != nil {
					t.Error(err)
				}
			}
			signal(syscall.SIGHUP)
			if test.deaf {
				exec1(t, pool, `INSERT INTO unilog.staged_records (action, object, data) VALUES ('a', 'o', '{}')`)
				await.True(t, "it to go on", func() (published bool) {
					if err := pool.QueryRow(t.Context(), `SELECT published_offset > 0 FROM unilog.partitions`).Scan(&published); err != nil {
						t.Fatal(err)
					}
					return published
				})
				signal(syscall.SIGTERM)
			}
			said, _ := io.ReadAll(lines)
			if err := cmd.Wait(); err != nil {
				t.Errorf("it ends with %v:\n%s", err, said)
			}
		})
	}
}
