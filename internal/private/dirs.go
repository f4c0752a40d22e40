package private

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
)

// farDir holds the data directories that root's Postgres could not reach at
// the place asked for.
const farDir = "/var/lib/unilog"

// maxSocket bounds a socket's path, in bytes: macOS allows 103, Linux 107.
const maxSocket = 103

// plain paths mean the same in URLs, shells and configuration files.
var plain = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)

// makeDir makes dir when missing. Postgres may have to pass through it under
// another uid, hence 0711; its contents keep their own modes.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	mode := fs.FileMode(0o700)
	if os.Geteuid() == 0 {
		mode = 0o711
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, mode)
}

// socketDir makes the directory for a server's sockets, the longest of which
// is called name: in dir, or, if that makes a path too long or unfit, or acct
// cannot enter dir, a short one among the temporary files that dir determines.
func socketDir(dir, name string, acct *account) (string, error) {
	path := filepath.Join(dir, "socket")
	for _, next := range shortDirs(dir) {
		if fits(path, name) && acct.canEnter(filepath.Dir(path)) {
			break
		}
		path = next
	}
	if err := os.Mkdir(path, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	return path, claim(path, acct)
}

// shortDirs are where dir's sockets may be instead, in order of preference.
func shortDirs(dir string) []string {
	name := "unilog-" + hash(dir)
	return []string{filepath.Join(os.TempDir(), name), filepath.Join("/tmp", name)}
}

func fits(dir, name string) bool {
	return plain.MatchString(dir) && len(filepath.Join(dir, name)) <= maxSocket
}

// claim refuses a directory that anyone else could have made or can enter:
// names among the temporary files can be guessed.
func claim(path string, acct *account) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	uid, _ := ownerOf(info)
	if info.Mode()&(fs.ModeType|fs.ModePerm) != fs.ModeDir|0o700 || uid != acct.id() && uid != uint32(os.Geteuid()) {
		return fmt.Errorf("%s is not a directory for its user alone (mode %v, uid %d): remove it", path, info.Mode(), uid)
	}
	if uid == acct.id() {
		return nil
	}
	return acct.own(path)
}

// dataDir says where the data for dir live. That is dir/data, unless acct
// cannot enter dir: then dir/data is a link to a directory that it can reach,
// and without the link what is found there is stale.
func dataDir(dir string, acct *account) (string, error) {
	link := filepath.Join(dir, "data")
	target, err := os.Readlink(link)
	isLink := err == nil
	switch {
	case acct.canEnter(dir) && !isLink:
		return link, nil
	case isLink && filepath.Dir(target) != farDir:
		return link, nil // somebody's own arrangement
	}
	if _, err := os.Lstat(link); err == nil && !isLink {
		return "", fmt.Errorf("user %s, as whom root runs postgres, cannot reach %s: move it", acct.name, link)
	}
	far := filepath.Join(farDir, hash(dir))
	if isLink && target == far {
		return far, nil
	}
	if acct == nil {
		return "", fmt.Errorf("%s was set up by root: run as root again, or remove it", dir)
	}
	if err := os.RemoveAll(far); err != nil {
		return "", err
	}
	if err := os.MkdirAll(farDir, 0o755); err != nil {
		return "", err
	}
	if isLink { // dir was moved: its data follow
		if err := os.Rename(target, far); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if err := os.Remove(link); err != nil {
			return "", err
		}
	}
	return far, os.Symlink(far, link)
}

func hash(path string) string {
	sum := sha256.Sum256([]byte(path))
	return hex.EncodeToString(sum[:8])
}
