package main

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// Lines that cannot be written end no process. What was asked for and cannot be written is
// an error.
func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = full.Close() })
	pool, env := database(t)
	exec1(t, pool, `INSERT INTO unilog.staged_records (action, object, data) VALUES ('a', 'o', '1')`)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t))
	streamer := command(context.WithoutCancel(t.Context()), t, env, "streamer")
	streamer.Stdout, streamer.Stderr = full, full
	if err := streamer.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = streamer.Process.Kill() })
	await.That(t, "the record to be published", func() (instead string) {
		err := pool.QueryRow(t.Context(), `SELECT CASE WHEN published_offset < 1 THEN 'none is' ELSE '' END FROM unilog.partitions`).Scan(&instead)
		if err != nil {
			t.Fatal(err)
		}
		return instead
	})
	if err := streamer.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := streamer.Wait(); err != nil {
		t.Errorf("the streamer ended with %v", err)
	}
	for _, args := range []string{"migrate --sql", "status --json"} {
		cmd := command(t.Context(), t, env, strings.Fields(args)...)
		cmd.Stdout = full
		if cmd.Run() == nil {
			t.Errorf("%s ended as if it had been written", args)
		}
	}
}
