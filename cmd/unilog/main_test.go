package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
	"github.com/rocketrides/unilog/migration"
)

// asProgram makes the test binary be the program.
const asProgram = "UNILOG_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	program.ConnectTimeout = time.Minute
	if os.Getenv(asProgram) != "" {
		main()
	}
	testenv.Main(m)
}

// command is the program with arguments and an environment, which has nothing else
// that would configure it.
func command(ctx context.Context, t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Dir = t.TempDir() // has no .env
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
	}
	// The servers that tests share sync nothing.
	cmd.Env = append(append(cmd.Env, asProgram+"=1", "GORACE=atexit_sleep_ms=0", "LOG_FORMAT=text", "ALLOW_UNSAFE=true"), env...)
	return cmd
}

// result is what a program printed and how it ended.
type result struct {
	out, err string
	code     int
}

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

// says sees that a command ends well and prints each of the words, its spaces put
// together.
func says(t *testing.T, env, args []string, words ...string) {
	t.Helper()
	r := execute(t, env, args...)
	if r.code != 0 {
		t.Fatalf("%v: exit code %d:\n%s%s", args, r.code, r.out, r.err)
	}
	for _, word := range r.lacks(words) {
		t.Errorf("%v: want %q in:\n%s", args, word, r.out)
	}
}

func (r result) lacks(words []string) []string {
	out := strings.Join(strings.Fields(r.out), " ")
	return slices.DeleteFunc(slices.Clone(words), func(word string) bool { return strings.Contains(out, word) })
}

// saysSoon is says for a command that does not wait long for the log's answer.
func saysSoon(t *testing.T, env, args []string, words ...string) {
	t.Helper()
	await.That(t, strings.Join(args, " ")+" to say it", func() string {
		r := execute(t, env, args...)
		if lacks := r.lacks(words); len(lacks) > 0 || r.code != 0 {
			return fmt.Sprintf("exit code %d, and there is no %q in:\n%s%s", r.code, lacks, r.out, r.err)
		}
		return ""
	})
}

// names are those of the program, and of packages, as they begin errors.
var names = regexp.MustCompile(`(?:^|: )(?:unilog|redislog|kafkalog|pglog|switchlog)\b`)

// fails sees that a command ends with a code and one line that says what, and whose it is
// only once.
func fails(t *testing.T, env, args []string, code int, says string) {
	t.Helper()
	r := execute(t, env, args...)
	if r.code != code || !strings.Contains(r.err, says) || strings.Count(r.err, "\n") != 1 || len(names.FindAllString(r.err, -1)) != 1 {
		t.Errorf("%v: exit code %d, want %d; stderr, want one line with %q, and one name:\n%s", args, r.code, code, says, r.err)
	}
}

// start runs one that goes on until the test ends, and ends well then. Ready waits
// until it has printed some words.
func start(t *testing.T, env []string, args ...string) (ready func(words string)) {
	t.Helper()
	cmd := command(context.WithoutCancel(t.Context()), t, env, args...)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := make(chan string, 10_000) // more than it prints while nobody reads
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		kill := time.AfterFunc(await.Patience, func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		var said []string
		for line := range lines {
			said = append(said, line)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v ended with %v:\n%s", args, err, strings.Join(said, "\n"))
		}
	})
	return func(words string) {
		t.Helper()
		await.True(t, strings.Join(args, " ")+" to say "+words, func() bool {
			select {
			case line, more := <-lines:
				if !more {
					t.Fatalf("%v ended before it said %q", args, words)
				}
				return strings.Contains(line, words)
			default:
				return false
			}
		})
	}
}

// The application: orders, and consumers that add their amounts up.
const sqlOrders = `
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount numeric NOT NULL);
CREATE TABLE order_totals (consumer text PRIMARY KEY, total numeric NOT NULL)`

// empty is a database without unilog's tables.
func empty(t *testing.T) (*pgxpool.Pool, []string) {
	t.Helper()
	pool := testenv.Database(t, "orders", func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, sqlOrders)
		return err
	})
	return pool, env(t, pool)
}

// database is one with all tables.
func database(t *testing.T) (*pgxpool.Pool, []string) {
	t.Helper()
	pool := testenv.Database(t, "orders and unilog", func(ctx context.Context, pool *pgxpool.Pool) error {
		if _, err := pool.Exec(ctx, sqlOrders); err != nil {
			return err
		}
		return migration.Up(ctx, pool, migration.Log, migration.Consumer)
	})
	return pool, env(t, pool)
}

func env(t *testing.T, pool *pgxpool.Pool) []string {
	return []string{"DATABASE_URL=" + pool.Config().ConnString(), "REDIS_URL=" + testenv.PatientRedis(testenv.SharedRedis(t)), "STREAM_NAME=" + testenv.StreamName(t)}
}

func exec1(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// order takes one in, with its record.
const order = `WITH o AS (INSERT INTO orders (amount) VALUES (2.50) RETURNING id, amount)
INSERT INTO unilog.staged_records (action, object, key, data) SELECT 'create', 'order', id::text, jsonb_build_object('amount', amount) FROM o`
