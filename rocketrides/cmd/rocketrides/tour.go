package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/term"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/rocketrides/internal/up"
	"github.com/rocketrides/unilog/status"
	"github.com/rocketrides/unilog/switchlog"
)

// tourCmd is the dashboard's tour, for a terminal.
type tourCmd struct {
	Yes bool `short:"y" help:"Go on by itself, as it does where no terminal is: else each step waits for Enter."`
}

// Help follows the flags' own help.
func (*tourCmd) Help() string {
	return `Starts a private Postgres and Redis and all processes, as "rocketrides up" does, and takes six steps: it books a ride, follows one, empties Redis, kills the streamer, freezes a consumer, and audits. Each step says what it does, and shows the figures before and after. Exits with 0 only if everything healed and the audit holds. All of it is removed then, and after Ctrl-C.`
}

// tourPatience is how long a step may take to heal; what takes longer is stuck.
var tourPatience = 90 * time.Second

const (
	tourRate  = 10
	tourPause = 10 * time.Millisecond // between two looks
)

// tour is one run of it. Its methods are for one goroutine.
type tour struct {
	out    io.Writer
	enter  <-chan struct{} // nil if nobody is waited for
	up     *upRun
	redis  string // its URL
	system *up.System
	db     *pgxpool.Pool
	log    switchlog.Engine
}

// Run starts everything, takes the steps, and stops everything.
func (c *tourCmd) Run(ctx context.Context) error {
	exe, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "rocketrides-tour-")
	if err != nil {
		return err
	}
	said, err := os.CreateTemp("", "rocketrides-tour-*.log")
	if err != nil {
		return err
	}
	defer said.Close()
	t := &tour{out: os.Stdout}
	if !c.Yes && term.IsTerminal(int(os.Stdin.Fd())) {
		t.enter = lines(os.Stdin)
	}
	settings := &upCmd{StreamName: program.Stream, Port: uint16(freeport.Next()), DataDir: dir, Rate: tourRate, Consumers: 2}
	t.up = &upRun{upCmd: settings, exe: exe, logLevel: "info", logger: slog.New(slog.DiscardHandler)}
	fmt.Fprintf(t.out, "A tour of six steps. Private servers are started in %s. %d rides a second\n"+
		"are booked all the time, and every tenth batch fails on purpose.\n", dir, tourRate)
	err = t.run(ctx, said)
	switch {
	case ctx.Err() != nil: // what did not start because of it is no failure
		err = ctx.Err()
	case err != nil:
		fmt.Fprintf(t.out, "\nWhat the processes said is in %s, the servers' state in %s.\n", said.Name(), dir)
		return err
	}
	return errors.Join(err, up.Remove(context.WithoutCancel(ctx), dir), os.Remove(said.Name()))
}

// lines sends a value for each line.
func lines(in io.Reader) <-chan struct{} {
	c := make(chan struct{})
	go func() {
		defer close(c)
		for r := bufio.NewScanner(in); r.Scan(); {
			c <- struct{}{}
		}
	}()
	return c
}

func (t *tour) run(ctx context.Context, said io.Writer) error {
	writers, readers := t.up.processes()
	return up.Run(ctx, up.Config{
		DataDir: t.up.DataDir,
		Port:    int(t.up.Port),
		Vars:    []string{"UNILOG_SCHEMA=", "LOG_URL=", "STREAM_NAME=" + t.up.StreamName, "API_PORT=" + strconv.Itoa(int(t.up.Port))},
		Prepare: func(ctx context.Context, databaseURL, redisURL string) error {
			t.redis = redisURL
			return t.up.prepare(ctx, databaseURL, redisURL)
		},
		Writers:  writers,
		Readers:  readers,
		Controls: t.up.controls(),
		During:   t.during,
		Output:   said,
	})
}

// during takes the steps.
func (t *tour) during(ctx context.Context, system *up.System) (err error) {
	t.system = system
	if t.db, err = t.up.database.Open(ctx, program); err != nil {
		return err
	}
	defer cli.ClosePool(t.db)
	log := cli.LogFlags{RedisURL: t.redis, StreamName: t.up.StreamName}
	if t.log, err = log.OpenAt(ctx, program, nil, "", ""); err != nil {
		return err
	}
	defer t.log.Close()
	err = t.until(ctx, "every process runs", func(s *status.Status) bool {
		return len(s.Consumers) == t.up.Consumers && s.Consumers[0].Checkpoint > 0 && s.Consumers[1].Checkpoint > 0
	})
	if err != nil {
		return err
	}
	steps := t.steps()
	for i, step := range steps {
		fmt.Fprintf(t.out, "\nStep %d of %d: %s\n%s\n", i+1, len(steps), step.title, step.says)
		if err := t.wait(ctx); err != nil {
			return err
		}
		if err := step.do(ctx); err != nil {
			return err
		}
	}
	fmt.Fprintln(t.out, "\nThe tour is over: the audit holds.")
	return nil
}

// wait waits for Enter, if there is somebody to press it.
func (t *tour) wait(ctx context.Context) error {
	if t.enter == nil {
		return ctx.Err()
	}
	fmt.Fprint(t.out, "Enter does it … ")
	select {
	case <-t.enter:
		return nil
	case <-ctx.Done():
		fmt.Fprintln(t.out)
		return ctx.Err()
	}
}

// until looks until what is wanted is there. What names it.
func (t *tour) until(ctx context.Context, what string, is func(*status.Status) bool) error {
	bound, cancel := context.WithTimeout(ctx, tourPatience)
	defer cancel()
	for {
		s, err := status.Read(bound, t.db, "", t.log)
		if err == nil && is(s) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-bound.Done():
			return errors.Join(fmt.Errorf("not within %v: %s", tourPatience, what), err)
		case <-time.After(tourPause):
		}
	}
}
