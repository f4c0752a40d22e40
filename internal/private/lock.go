package private

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// lockPatience bounds the wait for processes that a dead owner left behind, which end
// when the machine lets them.
const lockPatience = time.Minute

// Lock is an exclusive lock on a file. The kernel releases it when the last
// process that inherited the file has ended.
type Lock struct{ file *os.File }

// LockedError tells that somebody else holds a lock.
type LockedError struct {
	Path  string
	Owner int // the holder's process id; 0 if not known
}

func (e *LockedError) Error() string {
	if e.Owner == 0 {
		return e.Path + " is locked by another process"
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.Owner)
}

// TakeLock locks the file at path, which it makes when missing. While a living
// owner holds the lock it fails with a *LockedError at once. When the owner is
// dead, it waits for the children who inherited the lock to end too.
func TakeLock(ctx context.Context, path string) (*Lock, error) {
	ctx, cancel := context.WithTimeout(ctx, lockPatience)
	defer cancel()
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			l := &Lock{f}
			return l, l.sign(strconv.Itoa(os.Getpid()))
		}
		owner := owner(f)
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			_ = f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if alive(owner) || pause(ctx, 10*time.Millisecond) != nil {
			_ = f.Close()
			return nil, &LockedError{Path: path, Owner: owner}
		}
	}
}

// Unlock gives the lock up, as far as this process holds it.
func (l *Lock) Unlock() {
	// Whoever still finds it locked must not blame this process.
	_ = l.sign("")
	_ = l.file.Close()
}

func (l *Lock) sign(owner string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(owner), 0)
	return err
}

// owner is the process id that the holder wrote, 0 if there is none.
func owner(f *os.File) int {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil {
		return 0
	}
	return pid
}

func alive(pid int) bool {
	if pid <= 0 {
		return false
	}
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

// pause waits for d, or returns ctx's error if that ends first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
