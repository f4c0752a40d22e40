package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/rocketrides/unilog/internal/private"
)

// baseDir holds servers of this process: its name is short because socket
// paths are, and its lock tells other processes that it is in use.
type baseDir struct {
	path string
	lock *private.Lock
}

// roof is where base directories are.
func roof() string { return cmp.Or(memoryDir(), os.TempDir()) }

func newBase() (*baseDir, error) {
	sweep()
	for {
		b, err := tryBase()
		// Another process may sweep the directory before it is locked.
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(*private.LockedError)) {
			return b, err
		}
	}
}

func tryBase() (*baseDir, error) {
	path, err := os.MkdirTemp(roof(), "rr-")
	if err != nil {
		return nil, fmt.Errorf("make a directory for the servers: %s", err) // final, also if TMPDIR does not exist
	}
	lock, err := private.TakeLock(context.Background(), filepath.Join(path, "base.lock"))
	if err != nil {
		return nil, err
	}
	// Root's Postgres has to pass through under another user.
	if err := os.Chmod(path, 0o711); err != nil {
		lock.Unlock()
		return nil, err
	}
	return &baseDir{path, lock}, nil
}

func (b *baseDir) remove() error {
	defer b.lock.Unlock()
	return os.RemoveAll(b.path)
}

// sweep removes what test processes that were killed left behind. It is no
// one's failure if it can't.
func sweep() {
	locks, _ := filepath.Glob(filepath.Join(roof(), "rr-*", "base.lock"))
	for _, path := range locks {
		// A cancelled context: do not wait for orphans.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		// Opening must not make the file: its directory may just have gone.
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := private.TakeLock(ctx, path)
		if err != nil {
			continue
		}
		_ = os.RemoveAll(filepath.Dir(path))
		lock.Unlock()
	}
}
