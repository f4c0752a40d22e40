package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

const (
	// A test must bear that any process stands still for 15 s. A call may meet two that do,
	// one after the other.
	freezeLeast, freezeMost = time.Second, 7 * time.Second
	freezePauseMost         = 3 * time.Second
	// freezeAgain is when a process may stand still again.
	freezeAgain = 30 * time.Second
	// markName is the variable by which a run's processes are known.
	markName = "UNILOG_STRESS"
)

// standstills lets one process after the other of those with a mark stand still, until in
// ends. It says which, when, and for how long.
func standstills(in io.Reader, out io.Writer, mark string) error {
	f, err := newFreezer()
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	go func() {
		<-endOf(in)
		stop()
	}()
	lately := map[int]time.Time{}
	for ctx.Err() == nil {
		loop.Sleep(ctx, rand.N(freezePauseMost))
		p, found := choose(family(mark), func(p process) bool { return time.Since(lately[p.id]) > freezeAgain })
		if !found {
			continue
		}
		began := time.Now()
		missed := f.freeze(p.id) // it may have ended meanwhile
		if missed == nil {
			loop.Sleep(ctx, freezeLeast+rand.N(freezeMost-freezeLeast))
		}
		if err := f.thaw(); err != nil {
			return errors.Join(err, f.remove())
		}
		lately[p.id] = time.Now()
		if missed == nil {
			fmt.Fprintf(out, "stood still at %s for %.1f s: %d %s\n", began.Format(time.TimeOnly), time.Since(began).Seconds(), p.id, p.words)
		}
	}
	return f.remove()
}

// choose chooses a process that may stand still. Each kind is as likely as another.
func choose(all map[string][]process, may func(process) bool) (process, bool) {
	var kinds [][]process
	for _, kind := range all {
		if some := slices.DeleteFunc(kind, func(p process) bool { return !may(p) }); len(some) > 0 {
			kinds = append(kinds, some)
		}
	}
	if len(kinds) == 0 {
		return process{}, false
	}
	some := kinds[rand.N(len(kinds))]
	return some[rand.N(len(some))], true
}

// process is one that may stand still.
type process struct {
	id, parent int
	words      string
}

// builders are of no interest: no test waits for them.
var builders = []string{"sh", "dash", "bash", "make", "go", "compile", "link", "asm", "vet", "cgo"}

// family returns the processes that have the mark in their environment and those that
// descend from them, by kind: what they run, and whether they have children. Servers may
// have a parent that has ended, or write over their environment, but not both.
func family(mark string) map[string][]process {
	entry := []byte(markName + "=" + mark)
	inside, parents := map[int]bool{}, map[int]bool{}
	var all []process
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		id, _ := strconv.Atoi(filepath.Base(dir))
		stat, err := os.ReadFile(filepath.Join(dir, "stat"))
		if err != nil {
			continue
		}
		environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
		words, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		p := process{id: id, words: shorten(string(bytes.ReplaceAll(words, []byte{0}, []byte{' '})))}
		_, _ = fmt.Sscanf(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " %s %d", new(string), &p.parent)
		inside[id] = slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(e []byte) bool { return bytes.Equal(e, entry) })
		parents[p.parent] = true
		all = append(all, p)
	}
	for grew := true; grew; {
		grew = false
		for _, p := range all {
			if !inside[p.id] && inside[p.parent] {
				inside[p.id], grew = true, true
			}
		}
	}
	kinds := map[string][]process{}
	for _, p := range all {
		runs, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", p.id))
		if name := filepath.Base(runs); inside[p.id] && err == nil && !slices.Contains(builders, name) {
			kind := fmt.Sprintf("%s %t", name, parents[p.id])
			kinds[kind] = append(kinds[kind], p)
		}
	}
	return kinds
}
