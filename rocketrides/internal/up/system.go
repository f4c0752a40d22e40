package up

import (
	"context"
	"fmt"
	"os"
)

// System is what runs, for [Config].During. Its methods are not safe for
// concurrent use, but for Signal and Act.
type System struct{ s *supervisor }

// Signal sends a signal to the process or private server of a name. It is an
// error if that does not run just now, as between its death and its next start.
func (y *System) Signal(name string, sig os.Signal) error {
	for _, t := range y.s.tasks() {
		if t.name == name {
			return t.signal(sig)
		}
	}
	return fmt.Errorf("up: nothing is called %s", name)
}

// Act does an action, with [Config].Controls.
func (y *System) Act(ctx context.Context, a Action) error { return y.s.act(ctx, a) }

// StopWriters stops the writers in order.
func (y *System) StopWriters() { y.s.stopWriters() }

// Remove removes a data directory and all that is in it.
func Remove(ctx context.Context, path string) error {
	dir, err := openDataDir(ctx, path)
	if err != nil {
		return err
	}
	defer dir.close()
	if err := dir.clear(ctx); err != nil {
		return err
	}
	return os.RemoveAll(dir.path)
}
