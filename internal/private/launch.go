package private

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/private/child"
)

// startPatience bounds the wait for a server to answer; recovery after a
// crash may have a lot of log to replay.
const startPatience = 2 * time.Minute

// launch starts cmd as o's server and waits until answers returns nil. If the
// server ends before that, it fails with a *StartError. On success the server
// owns lock.
func launch(ctx context.Context, k kind, o Options, lock *Lock, cmd *exec.Cmd, answers func(context.Context) error) (*Server, error) {
	log, err := os.OpenFile(o.LogFile, os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	begin, err := log.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{lock.file}
	proc, err := child.Start(cmd, k.orphan)
	if err != nil {
		return nil, &StartError{k.name, err.Error(), o.LogFile}
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	for {
		last := answers(ctx)
		if last == nil {
			break
		}
		select {
		case <-proc.Done():
			return nil, &StartError{k.name, lastWords(log, begin), o.LogFile}
		default:
		}
		if pause(ctx, 5*time.Millisecond) != nil {
			_ = proc.Stop(ctx, k.stop)
			why := fmt.Sprintf("it does not answer: %v: %v", context.Cause(ctx), last)
			return nil, &StartError{k.name, strings.Join(strings.Fields(why), " "), o.LogFile}
		}
	}
	s := &Server{opts: o, kind: k, proc: proc, lock: lock, done: make(chan struct{})}
	go s.wait()
	return s, nil
}

// lastWords picks from a log, beginning at begin, why its writer gave up.
func lastWords(log io.ReaderAt, begin int64) string {
	b, _ := io.ReadAll(io.NewSectionReader(log, begin, 1<<20))
	return reason(string(b))
}

// reason is the first line that reports a fatal error, else the last line but
// those in which initdb says how it ends.
func reason(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range lines {
		for _, mark := range []string{"FATAL: ", "fatal: ", "error: "} {
			if i := strings.Index(line, mark); i >= 0 {
				return strings.TrimSpace(line[i:])
			}
		}
	}
	for _, line := range slices.Backward(lines) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "initdb: removing ") && !strings.HasPrefix(line, "child process ") {
			return line
		}
	}
	return "it said nothing"
}
