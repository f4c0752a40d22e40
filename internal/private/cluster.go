package private

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/rocketrides/unilog/internal/private/child"
)

// madeBy is the major version of the Postgres that made the cluster in data,
// "" if there is none yet.
func madeBy(data string) (string, error) {
	b, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err == nil {
		return strings.TrimSpace(string(b)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if entries, err := os.ReadDir(data); err == nil && len(entries) > 0 {
		return "", fmt.Errorf("%s is not empty and no Postgres data directory: remove it, or use another directory", data)
	}
	return "", nil
}

// initdb makes a cluster in data. It is there whole or not at all, whatever
// happens meanwhile.
func initdb(ctx context.Context, bin, data string, acct *account, o Options) error {
	fresh := data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(data), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	if err := acct.own(fresh); err != nil {
		return err
	}
	if err := fill(ctx, bin, fresh, acct, o); err != nil {
		return err
	}
	if err := os.Remove(data); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.Rename(fresh, data)
}

// fill makes a cluster in a new directory, by initdb or by a copy of what that
// made before.
func fill(ctx context.Context, bin, fresh string, acct *account, o Options) error {
	made := ""
	if o.InitCache != "" {
		made = filepath.Join(o.InitCache, "initdb-"+hash(versionOf(ctx, filepath.Join(bin, "postgres"))))
		if err := copyTree(made, fresh, acct); err == nil || !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	err := runInitdb(ctx, bin, fresh, acct, o.Durable, "C.UTF-8")
	if err != nil && ctx.Err() == nil {
		// macOS has no C.UTF-8.
		err = runInitdb(ctx, bin, fresh, acct, o.Durable, "C")
	}
	if err == nil && made != "" {
		keep(fresh, made)
	}
	return err
}

func runInitdb(ctx context.Context, bin, data string, acct *account, durable bool, locale string) error {
	args := []string{"-D", data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=" + locale}
	if !durable {
		args = append(args, "--no-sync")
	}
	cmd := acct.as(exec.Command(filepath.Join(bin, "initdb"), args...))
	cmd.Env = serverEnv()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	proc, err := child.Start(cmd, syscall.SIGTERM)
	if err != nil {
		return fmt.Errorf("initdb: %w", err)
	}
	select {
	case <-proc.Done():
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), proc.Stop(ctx, syscall.SIGTERM))
	}
	if proc.Err() != nil {
		return fmt.Errorf("initdb: %s", reason(out.String()))
	}
	return nil
}

// dropStalePid reports whether the last server on data did not end in order.
// Postgres refuses to start when the process id it left behind is in use,
// even by something else entirely: after a reboot that is no rarity.
func dropStalePid(data string) (unclean bool) {
	path := filepath.Join(data, "postmaster.pid")
	b, err := os.ReadFile(path)
	if err != nil {
		return false
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil || !alive(pid) || isPostgres(pid) {
		return true
	}
	_ = os.Remove(path)
	return true
}

// isPostgres errs on the side of yes.
func isPostgres(pid int) bool {
	name, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	if err != nil {
		if name, err = exec.Command("ps", "-o", "comm=", "-p", strconv.Itoa(pid)).Output(); err != nil {
			return true
		}
	}
	base := filepath.Base(string(name))
	return strings.HasPrefix(base, "postgres") || strings.HasPrefix(base, "postmaster")
}
