package private

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// keep copies a new cluster to where later ones are copied from. If it cannot, they
// are made anew: that is no one's failure. Others may do the same now.
func keep(cluster, to string) {
	if os.MkdirAll(filepath.Dir(to), 0o755) != nil {
		return
	}
	temp, err := os.MkdirTemp(filepath.Dir(to), "initdb.")
	if err != nil {
		return
	}
	if copyTree(cluster, temp, nil) != nil || os.Rename(temp, to) != nil {
		_ = os.RemoveAll(temp)
	}
}

// copyTree copies what is in a directory into another one, for an account.
func copyTree(from, to string, acct *account) error {
	return filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || path == from {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		if entry.IsDir() {
			err = os.Mkdir(target, 0o700)
		} else {
			err = copyFile(path, target)
		}
		if err != nil {
			return err
		}
		return acct.own(target)
	})
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closed := out.Close(); err == nil {
		err = closed
	}
	return err
}
