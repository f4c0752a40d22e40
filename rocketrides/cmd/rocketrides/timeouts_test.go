package main

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/proxy"
	"github.com/rocketrides/unilog/internal/testenv"
)

// hole returns a server behind a proxy, and its URL with short bounds.
func hole(t *testing.T, server string, bounds ...string) (*proxy.Proxy, string) {
	t.Helper()
	p, err := proxy.For(server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	u, err := url.Parse(p.URL())
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	for _, b := range bounds {
		query.Set(b, map[bool]string{true: "1", false: "500ms"}[b == "connect_timeout"])
	}
	u.RawQuery = query.Encode()
	return p, u.String()
}

// silences are the commands that ask Postgres, and what each of them asks when it
// falls silent at their work.
var silences = []struct {
	command string
	at      string
	says    string
	code    int
}{
	{"status", "FROM unilog.staged_records", tooLong + "read the status", 1},
	{"status --watch --json", "pg_stat_activity", tooLong + "read the status", 1},
	{"consumers list", "FROM unilog.dead_letters", tooLong + "read the status", 1},
	{"consumers forget c", "FOR UPDATE", tooLong + "forget consumer c", 1},
	{"deadletters list", "FROM unilog.dead_letters", tooLong + "read dead_letters", 1},
	{"deadletters retry c 1", "FOR UPDATE", tooLong + "offset 1: retry", 1},
	{"deadletters discard c 1", "UPDATE unilog.dead_letters", tooLong + "offset 1: ", 1},
	{"verify", "truth", tooLong + "audit", 2},
	{"verify --wait=1ms", "truth", tooLong + "audit", 2},
	{"reconcile c", "FOR UPDATE", tooLong + "reconcile c", 1},
	{"migrate", "to_regclass", tooLong + "migrate: ", 1},
	{"migrate", "pg_advisory_xact_lock(", tooLong + "migrate: ", 1},
	{"migrate", "CREATE TABLE unilog.checkpoints", tooLong + "migrate: unilog_consumer/00001_consumer.sql: ", 1},
	{"api --port=0", "to_regclass", atFirst, 1},
	{"streamer", "to_regclass", atFirst, 1},
	{"consumer c", "to_regclass", atFirst, 1},
	{"consumer c --bootstrap", "to_regclass", atFirst, 1},
}

const (
	tooLong = cli.MoreTime + ": "
	atFirst = "check DATABASE_URL, and see what holds it up"
)

// asExpected sees that a command ends with one line that says what to do.
func (r result) asExpected(t *testing.T, command string, code int, says string) {
	t.Helper()
	if r.code != code || !strings.Contains(r.err, says) || strings.Count(r.err, "\n") != 1 {
		t.Errorf("%s: exit code %d, want %d; stderr, want one line with %q:\n%s", command, r.code, code, says, r.err)
	}
}

// untilSilent is a context whose time is over when a server has fallen silent, and
// not before, however slow the machine is.
type untilSilent struct {
	context.Context
	silent <-chan struct{}
}

func (u untilSilent) Done() <-chan struct{} { return u.silent }

func (u untilSilent) Err() error {
	select {
	case <-u.silent:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// The timeout that is asked for is the time that a task has, and what it waits
// besides.
func TestTimeoutOfTasks(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	cmds := runs(t, []string{"verify", "--timeout=7h", "--database-url=" + pool.Config().ConnString()})
	latest := time.Now().Add(8 * time.Hour)
	err := cmds.Verify.Do(t.Context(), program, time.Hour, func(ctx context.Context, _ *pgxpool.Pool) error {
		if end, ok := ctx.Deadline(); !ok || end.Before(latest) || end.After(time.Now().Add(8*time.Hour)) {
			t.Errorf("the task must end at %v (%t), want %v", end, ok, latest)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// These connect first.
	redis := "--redis-url=" + patient(testenv.SharedRedis(t))
	for _, command := range [][]string{{"status", redis}, {"status", "--watch", "--json", redis}, {"migrate"}} {
		args := append(command, "--timeout=1ns", "--database-url="+pool.Config().ConnString())
		here(t.Context(), t, args...).asExpected(t, command[0], 1, tooLong)
	}
}

// Nothing but waiting is to be done here, so all do it at once.
func TestEveryCommandEndsWhenPostgresNeverAnswers(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	p, databaseURL := hole(t, pool.Config().ConnString(), "connect_timeout")
	p.Blackhole(proxy.Both)
	var commands sync.WaitGroup
	for _, c := range silences {
		commands.Go(func() {
			r := here(t.Context(), t, append(strings.Fields(c.command), "--database-url="+databaseURL)...)
			r.asExpected(t, c.command, c.code, "no answer from Postgres")
		})
	}
	commands.Wait()
}

func TestEveryCommandEndsWhenPostgresFallsSilent(t *testing.T) {
	t.Parallel()
	pool, _ := database(t)
	exec1(t, pool, `INSERT INTO unilog.checkpoints (name, partition) VALUES ('c', 0); INSERT INTO consumer_states (name, total_distance) VALUES ('c', 0)`)
	redis := testenv.SharedRedis(t)
	var commands sync.WaitGroup
	for _, c := range silences {
		pool := pool
		if c.command == "migrate" {
			pool, _ = emptyDatabase(t)
		}
		p, databaseURL := hole(t, pool.Config().ConnString())
		sprung := p.BlackholeAt(proxy.ToServer, proxy.Containing(c.at), proxy.Both)
		commands.Go(func() {
			args := append(strings.Fields(c.command), "--database-url="+databaseURL)
			if strings.HasPrefix(c.command, "status") {
				args = append(args, "--redis-url="+patient(redis))
			}
			r := here(untilSilent{t.Context(), sprung}, t, args...)
			r.asExpected(t, c.command, c.code, c.says)
			select {
			case <-sprung:
			default:
				t.Errorf("%s never said %q", c.command, c.at)
			}
		})
	}
	commands.Wait()
}

// The other commands never ask Redis.
func TestEveryCommandEndsWhenRedisNeverAnswers(t *testing.T) {
	t.Parallel()
	_, env := database(t)
	p, redisURL := hole(t, testenv.SharedRedis(t), "dial_timeout", "write_timeout")
	p.Blackhole(proxy.Both)
	env = append(env, "REDIS_URL="+redisURL)
	const says = "no answer from Redis; check REDIS_URL"
	var commands sync.WaitGroup
	for _, command := range []string{"streamer", "consumer c", fmt.Sprintf("up --port=%d", freePort(t))} {
		commands.Go(func() { execute(t, env, strings.Fields(command)...).asExpected(t, command, 1, says) })
	}
	commands.Go(func() {
		if r := execute(t, env, "status", "--json"); r.code != 0 || !strings.Contains(r.out, `"log_error":"`+says) {
			t.Errorf("status: %+v", r)
		}
	})
	commands.Wait()
}
