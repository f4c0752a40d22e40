package up

import (
	"context"
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
	// A grandchild may keep the pipe open.
	cmd.WaitDelay = time.Second
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
	return p.Process.Err()
}

func (p *process) Stop(ctx context.Context) error {
	defer p.out.flush()
	return p.Process.Stop(ctx, syscall.SIGTERM)
}
