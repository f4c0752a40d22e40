package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rocketrides/unilog/internal/private"
)

// refuse starts the server, and sees that each process that meets it ends at once, in one
// line that names its version.
func (w *workplace) refuse(ctx context.Context, s *shop, r *row, env []string) {
	processes := []string{"rocketrides streamer", "rocketrides consumer totals", "unilog doctor"}
	if r.kind == "Postgres" {
		processes = append([]string{"unilog migrate", "rocketrides api"}, processes...)
	}
	urls, stop, err := w.serve(ctx, s, r, env)
	defer stop()
	if err != nil {
		r.problems = append(r.problems, r.name+": "+err.Error())
		return
	}
	for _, p := range processes {
		said, err := w.command(ctx, append(env, urls...), strings.Fields(p))
		r.words = append(r.words, fmt.Sprintf("%s: %s", p, said))
		if err == nil || strings.Contains(said, "\n") || !strings.Contains(said, "is version "+r.found) {
			r.problems = append(r.problems, fmt.Sprintf("%s: %s does not refuse it in one line (%v): %s", r.name, p, err, said))
		}
	}
}

// command returns what a program says, and its end. One that goes on is no refusal.
func (w *workplace) command(ctx context.Context, env, args []string) (said string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(w.tests, args[0]), args[1:]...)
	cmd.Env = env
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		err = nil
	}
	return string(bytes.TrimSpace(out)), err
}

// serve starts the server, and for what is no Postgres one of the machine's, with all
// tables, and returns what the environment has to say of them.
func (w *workplace) serve(ctx context.Context, s *shop, r *row, env []string) (urls []string, stop func(), err error) {
	var started []*private.Server
	stop = func() {
		for _, server := range started {
			server.Quit()
		}
	}
	start := func(name string, f func(context.Context, private.Options) (*private.Server, error)) string {
		if err != nil {
			return ""
		}
		var dir string
		if dir, err = s.directory(); err != nil {
			return ""
		}
		var server *private.Server
		if server, err = f(ctx, private.Options{Dir: dir}); err != nil {
			return ""
		}
		started = append(started, server)
		return name + "=" + server.URL()
	}
	path := os.Getenv("PATH")
	_, found, _ := strings.Cut(env[len(env)-1], "=")
	err = os.Setenv("PATH", found) // servers are found by it
	defer func() { err = errors.Join(err, os.Setenv("PATH", path)) }()
	urls = append(urls, start("DATABASE_URL", private.StartPostgres))
	if r.kind == "Postgres" {
		return append(urls, "LOG_URL=postgres:"), stop, err
	}
	urls = append(urls, start("REDIS_URL", private.StartRedis))
	if err == nil {
		var said string
		if said, err = w.command(ctx, append(env, urls...), []string{"rocketrides", "migrate"}); err != nil {
			err = fmt.Errorf("migrate: %w: %s", err, said)
		}
	}
	return urls, stop, err
}
