// Package private runs a Postgres and a Redis (or Valkey) of the machine's own
// binaries as child processes of this one: on unix sockets only, in
// directories that only their user can enter, gone when this process is gone,
// even by SIGKILL.
//
// It works for root too, whom Postgres refuses to serve: the server then runs
// as the user postgres, or nobody, and its data live under /var/lib/unilog
// if that user cannot reach the directory asked for.
package private

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/internal/private/child"
)

// Options say where a server keeps its state and how much that is worth.
type Options struct {
	// Dir holds everything of this one server. It is made when missing.
	Dir string
	// Durable makes the server sync each commit to disk. Otherwise Postgres
	// survives its own death but not the machine's, and Redis starts empty.
	Durable bool
	// Database is created when missing. Default: unilog. Postgres only.
	Database string
	// Port is part of the socket's name, and where Postgres listens if ExtraArgs
	// give it an address. Default: 5432. Postgres only.
	Port int
	// LogFile is where the server's own messages go. Default: in Dir.
	LogFile string
	// ConfigFile is read before all arguments: it may hold passwords, which
	// arguments show to everyone. It must be there, and Sentinel writes to it.
	// Redis only.
	ConfigFile string
	// InitCache is a directory for copies of what initdb makes, one for each
	// version, which later clusters are copied from: they have the same system
	// identifier. Postgres only, and only for tests.
	InitCache string
	// ExtraArgs follow the server's other arguments, and win.
	ExtraArgs []string

	find finder // tests only; the zero value searches the machine
}

// Server is a running server. Its methods are safe for concurrent use.
type Server struct {
	opts   Options
	kind   kind
	proc   *child.Process
	lock   *Lock
	socket string // its directory
	url    string
	attach string
	done   chan struct{}

	mu      sync.Mutex
	stopped bool
}

// kind is what the two sorts of server differ in once they run.
type kind struct {
	name   string
	stop   syscall.Signal // shut down in order, without waiting for clients
	orphan syscall.Signal // the parent has died
}

var (
	postgres = kind{name: "postgres", stop: syscall.SIGINT, orphan: syscall.SIGQUIT}
	redis    = kind{name: "redis", stop: syscall.SIGTERM, orphan: syscall.SIGKILL}
)

// URL is what the server's Go clients connect with: for Postgres also psql and
// every other client on libpq.
func (s *Server) URL() string { return s.url }

// Attach is a shell command that opens a session with the server.
func (s *Server) Attach() string { return s.attach }

// Options are those that the server was started with; they start it again, at
// the same URL, once Done is closed.
func (s *Server) Options() Options { return s.opts }

// Pid is the server's process id: for Postgres the postmaster's.
func (s *Server) Pid() int { return s.proc.Pid() }

// Done is closed when the server has ended and its directory is free.
func (s *Server) Done() <-chan struct{} { return s.done }

// Err says how the server died. It is nil while it runs, and after a Stop that
// did not have to kill it.
func (s *Server) Err() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.proc.Err(); err != nil || s.stopped {
		return err
	}
	return errors.New("exit status 0")
}

// Stop shuts the server down without waiting for its clients. When ctx ends
// first it is killed, which is the error. The server has ended on return.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	err := s.proc.Stop(ctx, s.kind.stop)
	<-s.done
	if err != nil {
		return fmt.Errorf("stop %s: %w", s.kind.name, err)
	}
	// Ours unless something is left in it; a restart makes it again.
	_ = os.Remove(s.socket)
	return nil
}

// Kill sends SIGKILL and does not wait; Done tells when the server is gone.
func (s *Server) Kill() error { return s.Signal(syscall.SIGKILL) }

// quitTimeout is how long Quit waits before it kills: a server on a busy machine is soon
// done, and is not to leave its memory behind.
const quitTimeout = time.Minute

// Quit ends the server at once, and returns when it has ended. Nothing is saved. Unlike
// one that is killed, a Postgres gives its shared memory back: a system has room for that
// of 4,096 servers, macOS for 32, until it is started again.
func (s *Server) Quit() {
	_ = s.Signal(s.kind.orphan)
	_ = s.Signal(syscall.SIGCONT) // also if it is frozen
	select {
	case <-s.done:
	case <-time.After(quitTimeout):
		_ = s.Kill()
		<-s.done
	}
}

// Signal sends a signal to the server, of Postgres to the postmaster alone. A
// server that has ended is no error.
func (s *Server) Signal(sig os.Signal) error { return s.proc.Signal(sig) }

// wait frees the directory when the server has ended.
func (s *Server) wait() {
	<-s.proc.Done()
	s.lock.Unlock()
	close(s.done)
}

// prepare makes the directory and takes its lock, which the server inherits:
// it stays taken while any of the server's processes lives.
func prepare(ctx context.Context, k kind, o Options) (Options, *Lock, error) {
	if o.Dir == "" {
		return o, nil, fmt.Errorf("%s: no directory given", k.name)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, nil, err
	}
	if err := makeDir(dir); err != nil {
		return o, nil, err
	}
	if o.Dir, err = filepath.EvalSymlinks(dir); err != nil {
		return o, nil, err
	}
	o.Database = cmp.Or(o.Database, "unilog")
	o.Port = cmp.Or(o.Port, 5432)
	o.LogFile = cmp.Or(o.LogFile, filepath.Join(o.Dir, k.name+".log"))
	lock, err := TakeLock(ctx, filepath.Join(o.Dir, "lock"))
	if held := new(LockedError); errors.As(err, &held) {
		err = &RunningError{Server: k.name, Dir: o.Dir, Owner: held.Owner}
	}
	return o, lock, err
}
