package up

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rocketrides/unilog/internal/private"
)

// marker is the file that makes a directory ours.
const marker = "made-by-rocketrides"

// dataDir is a locked data directory.
type dataDir struct {
	path string
	lock *private.Lock
}

// openDataDir makes path a data directory unless it is one, and locks it.
// Errors name what to do; a directory with anybody else's files is refused.
func openDataDir(ctx context.Context, path string) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if len(entries) == 0 {
		if err := os.MkdirAll(path, 0o755); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
		text := "State of `rocketrides up`; --fresh removes it.\n"
		if err := os.WriteFile(filepath.Join(path, marker), []byte(text), 0o644); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	} else if _, err := os.Stat(filepath.Join(path, marker)); err != nil {
		return nil, fmt.Errorf("%s holds files that are not ours: choose another directory with --data-dir", path)
	}
	lock, err := private.TakeLock(ctx, filepath.Join(path, "lock"))
	if held := new(private.LockedError); errors.As(err, &held) {
		return nil, fmt.Errorf("rocketrides up runs on %s already (process %d): stop that, or choose another directory with --data-dir", path, held.Owner)
	}
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return &dataDir{path, lock}, nil
}

func (d *dataDir) close() { d.lock.Unlock() }

func (d *dataDir) server(name string) string { return filepath.Join(d.path, name) }

// clear removes the state of earlier runs.
func (d *dataDir) clear(ctx context.Context) error {
	for _, name := range []string{"postgres", "redis"} {
		if err := private.Remove(ctx, d.server(name)); err != nil {
			return fmt.Errorf("remove the old state: %w", err)
		}
	}
	if err := os.Remove(filepath.Join(d.path, "env")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove the old state: %w", err)
	}
	return nil
}

// writeEnv writes variables, as KEY=value, to a file that a shell can source.
// Readers see the old file or the new one; only the user can read it.
func (d *dataDir) writeEnv(vars []string) (path string, err error) {
	f, err := os.CreateTemp(d.path, "env-") // mode 0600
	if err != nil {
		return "", err
	}
	defer os.Remove(f.Name())
	for _, v := range vars {
		key, value, _ := strings.Cut(v, "=")
		if _, err = fmt.Fprintf(f, "%s=%s\n", key, quote(value)); err != nil {
			break
		}
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return "", err
	}
	path = filepath.Join(d.path, "env")
	return path, os.Rename(f.Name(), path)
}

// quote quotes for a shell what needs it. A question mark does not: nothing
// expands it in an assignment.
func quote(s string) string {
	for _, c := range s {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', strings.ContainsRune("-._/:@%?=+,", c):
		default:
			return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
		}
	}
	return s
}
