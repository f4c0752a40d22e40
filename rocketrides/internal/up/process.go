package up

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/internal/private/child"
)

// Process is one process to run.
type Process struct {
	Name string
	Args []string // the command and its arguments
	Kind string   // what it does, for those who watch
	// Control lets it use the control socket.
	Control bool
	// Env, if set, returns variables, as KEY=value, that win over what all
	// processes get. It is called at each start, after Prepare.
	Env func() []string
}

// process is a running Process.
type process struct {
	*child.Process
	out *lines
}

// startProcess runs p with its output going to out, line by line, once show is
// called: whoever reads a line can rely on it that p is known to run. If this
// process dies, p is killed.
func startProcess(p Process, env []string, out *output) (*process, error) {
	w := out.from(p.Name)
	w.shown = make(chan struct{})
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	if cmd.Env = env; p.Env != nil {
		cmd.Env = slices.Concat(env, p.Env())
	}
	// One writer for both keeps them in order.
	cmd.Stdout, cmd.Stderr = w, w
	// A grandchild may keep the pipe open. On a busy machine it may also take a while
	// to read what the process said last.
	cmd.WaitDelay = 30 * time.Second
	c, err := child.Start(cmd, syscall.SIGKILL)
	if err != nil {
		return nil, err
	}
	return &process{c, w}, nil
}

// show is called once.
func (p *process) show() { close(p.out.shown) }

func (p *process) Err() error {
	p.out.flush()
	if err := p.Process.Err(); !errors.Is(err, exec.ErrWaitDelay) {
		return err
	}
	return nil // it has ended well, and only its output has not
}

func (p *process) Stop(ctx context.Context) error {
	defer p.out.flush()
	return p.Process.Stop(ctx, syscall.SIGTERM)
}
