package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
	"github.com/rocketrides/unilog/rocketrides/internal/rides"
)

// asProgram makes the test binary be the program, children of up included.
const asProgram = "ROCKETRIDES_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	program.ConnectTimeout, handlerTimeout, apiTimeout = time.Minute, time.Minute, time.Minute
	actionTimeout, forgetTimeout, auditPatience, tourPatience = time.Minute, time.Minute, time.Minute, await.Patience/2
	if os.Getenv(asProgram) != "" {
		if redisURL := os.Getenv("REDIS_URL"); redisURL != "" {
			_ = os.Setenv("REDIS_URL", patient(redisURL))
		}
		main()
	}
	// What runs in this process is configured by its flags alone.
	parser, err := program.Parser(new(commands))
	if err != nil {
		panic(err)
	}
	for _, command := range parser.Model.Leaves(false) {
		for _, flags := range command.AllFlags(false) {
			for _, name := range names(flags) {
				_ = os.Unsetenv(name)
			}
		}
	}
	testenv.Main(m)
}

// patient has who asks a Redis wait for it as long as the tests do, unless its URL says
// for how long.
func patient(redisURL string) string {
	if strings.Contains(redisURL, "_timeout=") {
		return redisURL
	}
	return testenv.PatientRedis(redisURL)
}

// command is the program with arguments and an environment, which has nothing
// else that would configure it.
func command(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = t.TempDir() // has no .env
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "TZ", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	// The servers that tests share sync nothing. The dashboard's port is one for
	// all who do not ask for another.
	cmd.Env = append(append(cmd.Env, asProgram+"=1", "GORACE=atexit_sleep_ms=0", "LOG_FORMAT=text", "ALLOW_UNSAFE=true", "DASHBOARD_PORT=0"), env...)
	return cmd
}

// result is what a program printed and how it ended.
type result struct {
	out, err string
	code     int
}

// untilCaughtUp has verify wait for consumers as long as the tests do for anything.
var untilCaughtUp = "--wait=" + await.Patience.String()

func execute(t *testing.T, env []string, args ...string) result {
	t.Helper()
	ctx := await.Context(t, strings.Join(args, " "))
	cmd := command(ctx, t, env, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v; it said\n%s%s", cmp.Or(context.Cause(ctx), err), &stdout, &stderr)
	}
	return result{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// untilSaid runs a command until it ends well and says what is wanted: one look may be at a
// server that is slow.
func untilSaid(t *testing.T, env []string, want string, args ...string) (r result) {
	t.Helper()
	await.That(t, fmt.Sprintf("%v to say %q", args, want), func() string {
		if r = execute(t, env, args...); r.code == 0 && strings.Contains(r.out, want) {
			return ""
		}
		return fmt.Sprintf("%+v", r)
	})
	return r
}

// here runs a command in the test's own process, configured by its flags alone. A
// process of its own would show the same, but costs a busy machine half a second.
func here(ctx context.Context, t *testing.T, args ...string) result {
	t.Helper()
	cmds := new(commands)
	command, err := program.Parse(cmds, args)
	if err == nil {
		program.Bind(ctx, command, slog.New(slog.DiscardHandler), cmds)
		err = command.Run()
	}
	code, line := program.Verdict(err)
	if err != nil {
		line += "\n"
	}
	return result{err: line, code: code}
}

// flagsOf are those that say the same as an environment.
func flagsOf(env []string) (flags []string) {
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		if name == "REDIS_URL" {
			value = patient(value)
		}
		flags = append(flags, "--"+strings.ToLower(strings.ReplaceAll(name, "_", "-"))+"="+value)
	}
	return flags
}

// startHere runs one that goes on until stop, in the test's own process. Stop sees
// that it ends well.
func startHere(t *testing.T, env []string, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan result, 1)
	go func() { ended <- here(ctx, t, append(append(args, flagsOf(env)...), "--allow-unsafe")...) }()
	stop = sync.OnceFunc(func() {
		t.Helper()
		cancel()
		if r := await.Receive(t, strings.Join(args, " ")+" to end", ended); r.code != 0 {
			t.Errorf("%v: %+v", args, r)
		}
	})
	t.Cleanup(stop)
	return stop
}

// fails sees that a program ends with a code and one line that says what.
func (r result) fails(t *testing.T, code int, says string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.err, says) || strings.Count(r.err, "\n") != 1 {
		t.Errorf("exit code %d, want %d; stderr, want one line with %q:\n%s", r.code, code, says, r.err)
	}
}

// database returns one with all tables, and the environment that names it.
func database(t *testing.T) (*pgxpool.Pool, []string) {
	t.Helper()
	pool := testenv.Database(t, "all", func(ctx context.Context, pool *pgxpool.Pool) error {
		return migration.Up(ctx, pool, migration.Log, migration.Consumer, rides.MigrationSet)
	})
	return pool, []string{"DATABASE_URL=" + pool.Config().ConnString()}
}

func exec1(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestWrongFlags(t *testing.T) {
	t.Parallel()
	for says, args := range map[string][]string{
		"--retention is 0s":                         {"streamer", "--retention=0s"},
		"--keep-records is 0":                       {"streamer", "--keep-records=0"},
		"--consumer-expiry is 1s":                   {"streamer", "--consumer-expiry=1s"},
		"--simulate-failures is 1":                  {"streamer", "--simulate-failures=1"},
		"--simulate-failures is -1":                 {"consumer", "c", "--simulate-failures=-1"},
		"expected \"<name>\"":                       {"consumer"},
		"did you mean \"streamer\"":                 {"streamr"},
		"unknown flag --no-such-flag":               {"api", "--no-such-flag"},
		"--rate: expected a float but got \"x\"":    {"simulator", "--rate=x"},
		"--port: expected a valid 16 bit uint but ": {"api", "--port=65536"},
		"must be at least 0":                        {"api", "--max-backlog=-1"},
		"--rate is NaN":                             {"simulator", "--rate=nan"},
		"--rate is 1e+09":                           {"up", "--rate=1e9"},
		"there is no \"kill-everything\"":           {"torture", "--faults=kill-api,kill-everything"},
		"--for is 0s":                               {"torture", "--for=0s"},
		"--servers-only runs until stopped":         {"up", "--servers-only", "--for=1s"},
		"see `rocketrides consumer --help`":         {"consumer", "--no-such"},
		"the consumer's name has 101 characters":    {"consumer", strings.Repeat("é", 101)},
	} {
		here(t.Context(), t, args...).fails(t, cli.ExitUsage, says)
	}
	execute(t, nil, "streamer", "--retention=0s").fails(t, cli.ExitUsage, "--retention is 0s")
}

func TestEnvFile(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file, says string
		env        []string
	}{
		{"DATABASE_URL=nonsense://", "DATABASE_URL is not a valid Postgres URL", nil},
		{"DATABASE_URL=", "DATABASE_URL is not set", nil},
		{"DATABASE_URL=nonsense://", "no answer from Postgres", []string{"DATABASE_URL=postgres:///x?host=/nowhere"}},
		{"'", "read .env", nil},
	} {
		cmd := command(t.Context(), t, c.env, "verify")
		if err := os.WriteFile(filepath.Join(cmd.Dir, ".env"), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.says) {
			t.Errorf("with %s in .env and %v set: %v, want %q in:\n%s", c.file, c.env, err, c.says, out)
		}
	}
}
