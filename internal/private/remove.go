package private

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Remove removes all that a server keeps in dir, and for dir elsewhere, after
// the last of its processes has ended. It fails with a *RunningError while the
// server runs. The caller vouches that dir is a server's.
func Remove(ctx context.Context, dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	o, lock, err := prepare(ctx, kind{name: "a server"}, Options{Dir: dir})
	if err != nil {
		return err
	}
	defer lock.Unlock()
	if target, err := os.Readlink(filepath.Join(o.Dir, "data")); err == nil && filepath.Dir(target) == farDir {
		if err := os.RemoveAll(target); err != nil {
			return err
		}
	}
	for _, short := range shortDirs(o.Dir) {
		// Only if it is ours.
		if acct, err := postgresAccount(""); err == nil && claim(short, acct) == nil {
			if err := os.RemoveAll(short); err != nil {
				return err
			}
		}
	}
	return os.RemoveAll(o.Dir)
}
