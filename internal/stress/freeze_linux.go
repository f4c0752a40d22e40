package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// freezer is a control group whose processes stand still, without a signal that they, or
// a test that stops processes, could see.
type freezer struct {
	root, dir string
	// state is the file that takes frozen or thawed, and controller what the group is named
	// by in /proc/PID/cgroup.
	state, frozen, thawed, controller string
	from                              string // where its process was before
}

func newFreezer() (*freezer, error) {
	f := &freezer{root: "/sys/fs/cgroup", state: "cgroup.freeze", frozen: "1", thawed: "0"}
	if _, err := os.Stat("/sys/fs/cgroup/freezer/cgroup.procs"); err == nil { // version 1
		f = &freezer{root: "/sys/fs/cgroup/freezer", state: "freezer.state", frozen: "FROZEN", thawed: "THAWED", controller: "freezer"}
	}
	var err error
	f.dir, err = os.MkdirTemp(f.root, "unilog-stress-")
	if err == nil {
		if _, err = os.Stat(filepath.Join(f.dir, f.state)); err != nil {
			_ = os.Remove(f.dir)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("no process can be let stand still, which takes root and control groups: %w", err)
	}
	return f, nil
}

func (f *freezer) freeze(id int) error {
	groups, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", id))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(groups)) { // such as 3:freezer:/user
		if part := strings.SplitN(strings.TrimSpace(line), ":", 3); len(part) == 3 && part[1] == f.controller {
			f.from = filepath.Join(f.root, part[2])
		}
	}
	if err := f.move(f.dir, fmt.Sprint(id)); err != nil {
		return err
	}
	return f.set(f.frozen)
}

// thaw lets all go on, and puts them back, also those that were forked meanwhile.
func (f *freezer) thaw() error {
	if err := f.set(f.thawed); err != nil {
		return err
	}
	from := cmp.Or(f.from, f.root)
	f.from = ""
	// One that was killed meanwhile takes a while to end, and cannot be put back.
	for range 1000 {
		inside, err := os.ReadFile(filepath.Join(f.dir, "cgroup.procs"))
		if err != nil || len(inside) == 0 {
			return err
		}
		for _, id := range strings.Fields(string(inside)) {
			if err := f.move(from, id); err != nil { // it has ended, or there is no such group here
				_ = f.move(f.root, id)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("processes that stood still do not leave " + f.dir)
}

func (f *freezer) remove() error { return errors.Join(f.thaw(), os.Remove(f.dir)) }

func (f *freezer) move(to, id string) error {
	return os.WriteFile(filepath.Join(to, "cgroup.procs"), []byte(id), 0)
}

func (f *freezer) set(state string) error {
	return os.WriteFile(filepath.Join(f.dir, f.state), []byte(state), 0)
}
