package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/rocketrides/unilog/internal/private/child"
)

// relay is a peer's process.
type relay struct {
	*child.Process
	output string // a file
}

// startRelay starts the peer's relay, and does not wait until it works.
func (w *world) startRelay() (*relay, error) {
	cmd, err := w.command(w)
	if err != nil {
		return nil, err
	}
	w.outputs++
	out, err := os.Create(filepath.Join(w.dir, fmt.Sprintf("relay-%d.log", w.outputs)))
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if cmd.Dir == "" {
		cmd.Dir = w.dir
	}
	cmd.Stdout, cmd.Stderr = out, out
	process, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	r := &relay{process, out.Name()}
	w.relays = append(w.relays, r)
	return r, nil
}

// kill is SIGKILL. The process has ended when it returns.
func (r *relay) kill() error {
	err := r.Signal(syscall.SIGKILL)
	<-r.Done()
	return err
}

// stop ends it in order. To have to kill it is an error, as it may then send twice.
func (r *relay) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Stop(ctx, syscall.SIGTERM); ctx.Err() != nil {
		return fmt.Errorf("stop the relay: %w", err)
	}
	return nil // Java ends with 143
}

// lines are what it has printed.
func (r *relay) lines() []string {
	text, _ := os.ReadFile(r.output)
	if len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// blame adds to an error what the last relay said last.
func (w *world) blame(err error) error {
	if err == nil || len(w.relays) == 0 {
		return err
	}
	lines := w.relays[len(w.relays)-1].lines()
	return fmt.Errorf("%s: %w; it said last:\n%s", w.name(), err, strings.Join(lines[max(0, len(lines)-15):], "\n"))
}

// alive is an error once a relay that nobody has ended is gone.
func (w *world) alive() error {
	if len(w.relays) == 0 {
		return nil
	}
	r := w.relays[len(w.relays)-1]
	select {
	case <-r.Done():
		return fmt.Errorf("its process has ended: %v", r.Err())
	default:
		return nil
	}
}
