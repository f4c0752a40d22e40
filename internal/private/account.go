package private

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user that Postgres runs as when this process is root's; nil
// means this process's own user.
type account struct {
	name     string
	uid, gid uint32
}

// postgresAccount picks who Postgres runs as: for root the owner of data if
// that exists and is not root, else postgres, else nobody.
func postgresAccount(data string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if info, err := os.Stat(data); err == nil {
		if uid, _ := ownerOf(info); uid != 0 {
			if u, err := user.LookupId(strconv.Itoa(int(uid))); err == nil {
				return accountOf(u)
			}
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		if u, err := user.Lookup(name); err == nil {
			return accountOf(u)
		}
	}
	return nil, errors.New("postgres refuses to run as root, and there is no user postgres or nobody to run it as")
}

func accountOf(u *user.User) (*account, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("user %s: %w", u.Username, err)
	}
	return &account{u.Username, uint32(uid), uint32(gid)}, nil
}

func ownerOf(info fs.FileInfo) (uid uint32, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return st.Uid, true
}

// own hands path itself to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Lchown(path, int(a.uid), int(a.gid))
}

// id is the uid that the account's files have.
func (a *account) id() uint32 {
	if a == nil {
		return uint32(os.Geteuid())
	}
	return a.uid
}

// as makes cmd run as the account, from a directory that everyone can enter.
func (a *account) as(cmd *exec.Cmd) *exec.Cmd {
	if a != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: a.uid, Gid: a.gid}}
		cmd.Dir = "/"
	}
	return cmd
}

// canEnter asks the kernel, which knows more about access than mode bits say.
func (a *account) canEnter(dir string) bool {
	return a == nil || a.as(exec.Command("/bin/sh", "-c", `cd -- "$1"`, "sh", dir)).Run() == nil
}
