// Package child runs processes that do not outlive this one, even when it is
// killed with SIGKILL.
//
// On Linux the kernel signals the child when its parent dies. Elsewhere a
// small shell watches a pipe whose other end only the parent holds.
package child

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a running child. Its methods are safe for concurrent use.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // set before done is closed
}

// tie arranges that cmd gets the signal orphan when this process dies. The
// function it returns is called once, after cmd has ended or failed to start.
type tie func(cmd *exec.Cmd, orphan syscall.Signal) (untie func(), err error)

// Start starts cmd in a process group of its own, so that a terminal's Ctrl-C
// does not reach it, and arranges that it gets the signal orphan when this
// process dies. It may change cmd, which the caller gives up.
func Start(cmd *exec.Cmd, orphan syscall.Signal) (*Process, error) {
	return start(cmd, orphan, platformTie)
}

func start(cmd *exec.Cmd, orphan syscall.Signal, tie tie) (*Process, error) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	untie, err := tie(cmd, orphan)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go p.run(started, untie)
	if err := <-started; err != nil {
		return nil, err
	}
	return p, nil
}

// run keeps its OS thread until the child has ended: Linux sends the
// parent-death signal when the thread that forked dies, not the process.
func (p *Process) run(started chan<- error, untie func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		untie()
		started <- err
		return
	}
	started <- nil
	p.err = p.cmd.Wait()
	untie()
	close(p.done)
}

// Pid is the child's process id, also after it has ended.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Done is closed when the child has ended and was reaped.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says how the child ended: nil for exit status 0 and while it runs, else
// usually an *exec.ExitError.
func (p *Process) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Signal sends sig to the child alone, not to its children. A child that has
// ended is no error.
func (p *Process) Signal(sig os.Signal) error {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// Stop sends sig and waits for the child to end. When ctx ends first, the
// child is killed, and the error wraps ctx's cause. Either way the child has
// ended when Stop returns.
func (p *Process) Stop(ctx context.Context, sig os.Signal) error {
	if err := p.Signal(sig); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	if err := p.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	<-p.done
	return fmt.Errorf("had to be killed: %w", context.Cause(ctx))
}
