// Command matrix runs the tests that meet a server on every version of it that the
// README names, and a short torture, and prints a table of what came of it. `make
// test-matrix` runs it.
//
//	matrix [-write FILE] [NAME...]
//
// A name is of a version, as postgres-18, or of all of a kind, as postgres. Exit status: 0,
// or 1 if a version failed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/loop"
)

func main() {
	write := flag.String("write", "", "put the lines of those that did not fail into the table between its marks in this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), loop.EndSignals()...)
	defer stop()
	if err := run(ctx, *write, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "matrix:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, write string, names []string) error {
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		return errors.New("the servers are built for Linux on amd64: run this there")
	}
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	s, err := openShop()
	if err != nil {
		return err
	}
	defer os.RemoveAll(s.temp)
	w, err := open(s)
	if err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "matrix: compiling the tests")
	if err := w.compile(ctx, chosen); err != nil {
		return err
	}
	var rows []row
	var problems []string
	for _, c := range chosen {
		r := w.try(ctx, s, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		fmt.Fprintln(os.Stderr, "matrix:", strings.TrimSpace(r.line()))
		rows, problems = append(rows, r), append(problems, r.problems...)
	}
	fmt.Print(table(rows))
	for _, r := range rows {
		for _, words := range r.words {
			fmt.Printf("%s: %s\n", r.name, words)
		}
	}
	if write != "" {
		if err := update(write, rows); err != nil {
			return err
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "\nmatrix: "))
	}
	return nil
}

// choose returns those of the names, in their order, or all.
func choose(names []string) ([]server, error) {
	if len(names) == 0 {
		return servers, nil
	}
	isNamed := func(s server, name string) bool { return s.name == name || strings.HasPrefix(s.name, name+"-") }
	for _, name := range names {
		if !slices.ContainsFunc(servers, func(s server) bool { return isNamed(s, name) }) {
			var all []string
			for _, s := range servers {
				all = append(all, s.name)
			}
			return nil, fmt.Errorf("there is no %q: take of %s", name, strings.Join(all, " "))
		}
	}
	var chosen []server
	for _, s := range servers {
		if slices.ContainsFunc(names, func(name string) bool { return isNamed(s, name) }) {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

func openShop() (*shop, error) {
	cache := os.Getenv("XDG_CACHE_HOME") // as in the scripts
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return nil, err
		}
		cache = filepath.Join(home, ".cache")
	}
	s := &shop{cache: filepath.Join(cache, "unilog", "matrix")}
	if err := os.MkdirAll(s.cache, 0o755); err != nil {
		return nil, err
	}
	var err error
	if s.temp, err = os.MkdirTemp("", "matrix."); err == nil {
		err = os.Chmod(s.temp, 0o755)
	}
	return s, err
}

// open makes a place, empty of what an earlier run said.
func open(s *shop) (*workplace, error) {
	here, err := os.Getwd()
	w := &workplace{logs: filepath.Join(here, "bin", "matrix"), tests: filepath.Join(s.temp, "tests")}
	return w, errors.Join(err, os.RemoveAll(w.logs), os.MkdirAll(w.logs, 0o755), os.Mkdir(w.tests, 0o755))
}

// try gets a server and runs what there is for it. Its files are gone afterwards.
func (w *workplace) try(ctx context.Context, s *shop, c server) row {
	r := row{server: c}
	fail := func(err error) row {
		r.problems = append(r.problems, c.name+": "+err.Error())
		return r
	}
	began := time.Now()
	temp, err := s.directory()
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(temp)
	mine := &shop{s.cache, temp}
	bin := filepath.Join(temp, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.MkdirAll(filepath.Join(w.logs, c.name), 0o755)); err != nil {
		return fail(err)
	}
	more, err := c.get(ctx, mine, bin)
	if err != nil {
		return fail(err)
	}
	// Without CI, tests that lack a server are skipped.
	env := append(os.Environ(), append(more, "CI=true", "PATH="+bin+":"+os.Getenv("PATH"))...)
	if r.found, err = version(ctx, env, bin, c); err != nil {
		return fail(err)
	}
	if c.refused {
		w.refuse(ctx, mine, &r, env)
	} else {
		w.run(ctx, &r, env)
	}
	r.seconds = int(time.Since(began).Seconds())
	return r
}
