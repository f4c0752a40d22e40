package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/creack/pty"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/term"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// terminal is one with a program on it.
type terminal struct {
	*testing.T
	keyboard, tty *os.File
	cmd           *exec.Cmd
	before        *term.State
	frames        chan string // with colours
	rest          chan string // what is written after the last frame
}

func onTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	keyboard, tty, err := pty.Open()
	if err == nil {
		err = pty.Setsize(keyboard, &pty.Winsize{Rows: 24, Cols: 80})
	}
	if err != nil {
		t.Fatal(err)
	}
	p := &terminal{T: t, keyboard: keyboard, tty: tty, frames: make(chan string, 10_000), rest: make(chan string, 1)}
	if p.before, err = term.GetState(int(tty.Fd())); err != nil {
		t.Fatal(err)
	}
	p.cmd = command(context.WithoutCancel(t.Context()), t, append([]string{"TERM=xterm-256color"}, env...), args...)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = tty, tty, tty
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read()
	t.Cleanup(func() {
		p.give()
		_ = keyboard.Close()
	})
	return p
}

// give ends the program, and what reads it.
func (p *terminal) give() {
	_ = p.cmd.Process.Kill()
	_ = p.tty.Close()
}

// read takes the output apart into frames, until nobody has the terminal.
func (p *terminal) read() {
	defer close(p.frames)
	var out []byte
	for chunk := make([]byte, 64<<10); ; {
		n, err := p.keyboard.Read(chunk)
		out = append(out, chunk[:n]...)
		for {
			frame, rest, whole := bytes.Cut(out, []byte(ansi.ResetModeSynchronizedOutput))
			if !whole {
				break
			}
			p.frames <- string(frame)
			out = rest
		}
		if err != nil {
			p.rest <- string(out)
			return
		}
	}
}

// shows waits for a frame that matches all patterns and returns its lines. Each
// space in a pattern stands for many.
func (p *terminal) shows(patterns ...string) []string {
	p.Helper()
	var lines []string
	p.until(fmt.Sprintf("a frame of %q", patterns), func(frame string) bool {
		text := ansi.Strip(frame)
		for _, pattern := range patterns {
			if !regexp.MustCompile(strings.ReplaceAll(pattern, " ", " +")).MatchString(text) {
				return false
			}
		}
		lines = strings.Split(strings.ReplaceAll(text, "\r", ""), "\n")
		return true
	})
	return lines
}

// until waits for a frame.
func (p *terminal) until(what string, is func(frame string) bool) {
	p.Helper()
	last := "no frame"
	await.That(p, what, func() string {
		for {
			select {
			case frame, more := <-p.frames:
				if !more {
					p.Fatalf("it ended without %s; the last one was\n%s", what, last)
				}
				if is(frame) {
					return ""
				}
				last = ansi.Strip(frame)
			default:
				return last
			}
		}
	})
}

// ended sees that the program ends well and leaves the terminal as it was.
func (p *terminal) ended() {
	p.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	if err := await.Receive(p, "the end of the program", ended); err != nil {
		p.Errorf("it ended with %v", err)
	}
	if after, err := term.GetState(int(p.tty.Fd())); err != nil || *after != *p.before {
		p.Errorf("the terminal's mode is %v, was %v, %v", after, p.before, err)
	}
	_ = p.tty.Close()
	for range p.frames { // what was on its way
	}
	want := ansi.SetModeAutoWrap + ansi.ShowCursor + ansi.ResetModeAltScreenSaveCursor
	if rest := await.Receive(p, "the last words", p.rest); rest != want {
		p.Errorf("the last words to the terminal are %q, want %q", rest, want)
	}
}

// load books rides until the test ends, whatever happens to Postgres.
func load(t *testing.T, pool *pgxpool.Pool) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for tick := time.NewTicker(10 * time.Millisecond); ctx.Err() == nil; {
			_, _ = pool.Exec(ctx, `WITH ride AS (INSERT INTO rides (distance) VALUES (1.5) RETURNING id, distance)
				INSERT INTO unilog.staged_records (action, object, data)
				SELECT 'create', 'ride', jsonb_build_object('id', id, 'distance', distance) FROM ride`)
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	}()
	t.Cleanup(func() { stop(); <-ended })
}

func TestWatch(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t))
	start(t, env, "streamer")
	start(t, env, "consumer", "c")
	load(t, pool)
	p := onTerminal(t, env, "status", "--watch")

	figures := `published (\d+) [1-9]`
	counted := func(lines []string) string {
		return regexp.MustCompile(`published +(\S+)`).FindStringSubmatch(strings.Join(lines, "\n"))[1]
	}
	first := counted(p.shows(figures, `c \d+ [1-9]`, `All is well: \d+ rides a second`, `= EQUAL since`, `latency p50 \d+ ms`))
	await.True(t, "more to be published", func() bool { return counted(p.shows(figures)) != first })
	exec1(t, pool, `UPDATE consumer_states SET total_distance = total_distance + 1.25`)
	p.shows(`≠ NOT EQUAL since \S+, for \d+s; c is off by -1.25 m`, `≠ c `, `! c does not agree`)
	exec1(t, pool, `UPDATE consumer_states SET total_distance = total_distance - 1.25`)
	p.shows(`AUDIT = EQUAL since`, `= c `, `✓ All consumers agree with the database again`)

	for _, size := range []pty.Winsize{{Rows: 40, Cols: 120}, {Rows: 12, Cols: 40}} {
		if err := pty.Setsize(p.keyboard, &size); err != nil {
			t.Fatal(err)
		}
		await.That(t, fmt.Sprintf("a frame of %d columns and %d rows", size.Cols, size.Rows), func() string {
			lines := p.shows("Rocket Rides")
			if width := ansi.StringWidth(lines[0]); width != int(size.Cols) || len(lines) > int(size.Rows) {
				return fmt.Sprintf("%d columns and %d rows", width, len(lines))
			}
			return ""
		})
	}
	if _, err := p.keyboard.WriteString("xq"); err != nil {
		t.Fatal(err)
	}
	p.ended()
}

func TestWatchWhileServersAreDown(t *testing.T) {
	t.Parallel()
	server := testenv.Postgres(t)
	pool, err := pgxpool.New(t.Context(), server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if err := migration.Up(t.Context(), pool, migration.Log, migration.Consumer, rides.MigrationSet); err != nil {
		t.Fatal(err)
	}
	exec1(t, pool, `INSERT INTO rides (distance) VALUES (1.5)`)
	redis, redisURL := hole(t, testenv.SharedRedis(t))
	redis.Refuse(true)
	p := onTerminal(t, []string{"DATABASE_URL=" + server.URL(), "REDIS_URL=" + redisURL, "STREAM_NAME=" + testenv.StreamName(t)}, "status", "--watch")
	p.shows(`booked 1 `, `Redis cannot be read; rides are booked all the same`, `No streamer leads`)
	redis.Refuse(false)
	p.shows(`✓ Redis can be read again`)
	_ = server.Kill()
	p.shows(`figures of`, `! Postgres cannot be read`, `booked 1 –`, `UNKNOWN; at \S+ it was equal`)
	testenv.Restart(t, server)
	await.True(t, "the frame to say that no streamer leads", func() bool {
		return strings.Contains(p.shows(`✓ Postgres can be read again`, `booked 1 `)[1], "No streamer leads")
	})
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.ended()
}

// A Redis that has never answered does not keep the rest waiting. There are no
// colours either.
func TestWatchWithoutRedis(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	silent, redisURL := hole(t, testenv.SharedRedis(t), "dial_timeout", "write_timeout")
	silent.Blackhole(proxy.Both)
	p := onTerminal(t, append(env, "REDIS_URL="+redisURL, "NO_COLOR=yes"), "status", "--watch")
	coloured := regexp.MustCompile(`\x1b\[[0-9;]*[34]8;`)
	p.until("a frame without Redis", func(frame string) bool {
		if coloured.MatchString(frame) {
			t.Fatalf("there are colours: %q", frame)
		}
		return strings.Contains(ansi.Strip(frame), "! Redis cannot be read")
	})
	p.shows(`booked 0 0.0`, `! Redis cannot be read: no answer from Redis; check REDIS_URL`) // rates need many samples
	if _, err := p.keyboard.WriteString("\x03"); err != nil {
		t.Fatal(err)
	}
	p.ended()
}

// What is not to be looked at by a person is printed once a second.
func TestWatchPrints(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "TERM=xterm-256color")
	p := start(t, env, "status", "--watch")
	for range 2 {
		p.says("leader     none")
		p.says("no streamer leads")
	}
	if said := p.stop(); strings.Contains(said, "\x1b") {
		t.Errorf("it wrote for a terminal: %q", said)
	}
	p = start(t, env, "status", "--watch", "--json")
	for range 2 {
		if line := await.Receive(t, "a line", p.lines); !json.Valid([]byte(line)) {
			t.Errorf("this is no JSON: %s", line)
		}
	}
	p.stop()
}
