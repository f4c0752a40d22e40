package main

import (
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/rueidis"
	"golang.org/x/sync/errgroup"

	"github.com/rocketrides/unilog/cmd/unilog/cli"
	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// secrets are servers that ask for passwords.
type secrets struct {
	*testing.T
	postgres *pgxpool.Pool // of the superuser
	redis    rueidis.Client
	// DATABASE_URL and REDIS_URL, and what they are made of.
	databaseURL, redisURL string
	socketDir, redisPath  string
	// in is a part of every password; what is around it can be written in many
	// ways. It is the api's token, too.
	in string
	// tokens is the file with its hash.
	tokens string
}

// hard is a password with all characters that mean something in a connection
// string.
func (s *secrets) hard() string { return `/?#` + s.in + `@:%& ='"\` }

func newSecrets(t *testing.T) *secrets {
	t.Helper()
	s := &secrets{T: t, in: rand.Text()}
	server := testenv.Postgres(t)
	var err error
	if s.postgres, err = pgxpool.New(t.Context(), server.URL()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.postgres.Close)
	s.socketDir = s.postgres.Config().ConnConfig.Host
	var rules string
	if err := s.postgres.QueryRow(t.Context(), `SHOW hba_file`).Scan(&rules); err != nil {
		t.Fatal(err)
	}
	exec1(t, s.postgres, `CREATE ROLE app LOGIN`)
	s.databasePassword(s.hard())
	exec1(t, s.postgres, `ALTER DATABASE unilog OWNER TO app`)
	exec1(t, s.postgres, `GRANT CREATE ON SCHEMA public TO app`)
	exec1(t, s.postgres, `COPY (VALUES ('local all postgres trust'), ('local all all scram-sha-256')) TO '`+rules+`'`)
	exec1(t, s.postgres, `SELECT pg_reload_conf()`)
	s.databaseURL = s.url("postgres", "app", ":5432", "/unilog?host="+s.socketDir)

	redisServer := testenv.Redis(t)
	option, err := rueidis.ParseURL(patient(redisServer.URL()))
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	if s.redis, err = rueidis.NewClient(option); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.redis.Close)
	s.redisPassword(s.hard())
	s.redisPath = option.InitAddress[0]
	s.redisURL = s.url("unix", "", "", s.redisPath)
	s.tokens = newTokens(t, "simulator "+hashOf(s.in))
	return s
}

// url is one with the password in it.
func (s *secrets) url(scheme, user, host, rest string) string {
	return scheme + "://" + url.UserPassword(user, s.hard()).String() + "@" + host + rest
}

func (s *secrets) databasePassword(password string) {
	s.Helper()
	exec1(s.T, s.postgres, `ALTER ROLE app PASSWORD '`+strings.ReplaceAll(password, `'`, `''`)+`'`)
	exec1(s.T, s.postgres, `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app'`)
}

// redisPassword ends all connections but the test's own.
func (s *secrets) redisPassword(password string) {
	s.Helper()
	for _, command := range [][]string{
		{"CONFIG", "SET", "requirepass", password},
		{"CLIENT", "KILL", "TYPE", "normal"},
	} {
		if err := s.redis.Do(s.Context(), s.redis.B().Arbitrary(command...).Build()).Error(); err != nil {
			s.Fatal(err)
		}
	}
}

// env has URLs in place of the right ones, if there are any.
func (s *secrets) env(more ...string) []string {
	return append([]string{
		"DATABASE_URL=" + s.databaseURL, "REDIS_URL=" + s.redisURL, "LOG_LEVEL=debug", "LOG_FORMAT=auto",
		"API_TOKENS_FILE=" + s.tokens, "API_TOKEN=" + s.in,
	}, more...)
}

// keeps sees that nothing of a password is in what was printed.
func (s *secrets) keeps(what, printed string) {
	s.Helper()
	for line := range strings.Lines(printed) {
		if strings.Contains(line, s.in) {
			s.Errorf("%s prints the password (with %s in it): %s", what, s.in, line)
		}
	}
}

// run runs a command, which must end with a code.
func (s *secrets) run(code int, env []string, args ...string) {
	s.Helper()
	r := execute(s.T, env, args...)
	s.keeps(strings.Join(args, " "), r.out+r.err)
	if r.code != code || code != 0 && strings.Count(r.err, "\n") != 1 {
		s.Errorf("%v with %v ended with %d, want %d, and one line if it fails: %s%s", args, env, r.code, code, r.out, r.err)
	}
}

// TestNoPasswordIsPrinted runs everything there is, also with servers that
// refuse it and with connection strings that are wrong in every way.
func TestNoPasswordIsPrinted(t *testing.T) {
	t.Parallel()
	s := newSecrets(t)
	s.run(0, s.env(), "migrate")
	s.wrongURLs()
	s.wrongWords()
	s.wholeSystem()
}

func (s *secrets) wrongURLs() {
	s.Helper()
	hidden := testenv.Redis(s.T, "--rename-command", "AUTH", "NO-AUTH", "--rename-command", "HELLO", "NO-HELLO")
	good, hard, p := s.databaseURL, s.hard(), s.in
	db, err := (&cli.DatabaseFlags{DatabaseURL: good}).Open(s.Context(), program)
	if err != nil {
		s.Fatal(err)
	}
	defer db.Close()
	var commands errgroup.Group
	commands.SetLimit(4)
	for _, u := range []string{
		strings.Replace(good, p, p+"x", 1), // the wrong password
		strings.Replace(good, "app", "nobody", 1),
		strings.Replace(good, "/unilog", "/nothing", 1),
		strings.Replace(good, s.socketDir, "/nowhere", 1),
		s.url("postgres", "app", "127.0.0.1:1", "/unilog"),
		s.url("postgres", "app", "127.0.0.1:x", "/unilog"),
		s.url("postgres", "app", "127.0.0.1:99999", "/unilog"),
		s.url("mysql", "app", "127.0.0.1", "/unilog"),
		"postgres://app:%zz" + p + "@127.0.0.1:1/unilog",
		"postgres://app:" + hard + "@127.0.0.1:1/unilog",
		"postgres://app:1/" + p + "@127.0.0.1:1/unilog",
		"postgres://app:1?" + p + "@127.0.0.1:1/unilog",
		"postgres://app:1#" + p + "@127.0.0.1:1/unilog",
		"postgres://127.0.0.1/app:" + p + "@/unilog",
		"postgres://app: " + p + "@127.0.0.1:1/unilog",
		s.url("postgres", "app", "127.0.0.1:1", "/unilog?sslmode=verify-full&sslrootcert=/nowhere"),
		s.url("postgres", "app", "127.0.0.1:1", "/unilog?sslmode="+p),
		s.url("postgres", "app", "127.0.0.1:1", "/unilog?sslmode=require&sslcert=/nowhere&sslkey=/nowhere&sslpassword="+p),
		good + "&no_such_setting=" + p,
		good + "&connect_timeout=" + p,
		good + "&" + p + " host=1",
		"user=app host=" + s.socketDir + " password='" + p,
		"user=app password=1 " + p + " host=" + s.socketDir,
		p,
	} {
		commands.Go(func() error {
			r := here(s.Context(), s.T, "migrate", "--database-url="+u)
			s.keeps("migrate", r.err)
			if r.code != 1 || strings.Count(r.err, "\n") != 1 {
				s.Errorf("with %s, migrate ended with %+v, want one line", u, r)
			}
			return nil
		})
	}
	for _, u := range []string{
		strings.Replace(s.redisURL, p, p+"x", 1),
		s.url("unix", "nobody", "", s.redisPath),
		s.url("unix", "", "", strings.TrimPrefix(hidden.URL(), "unix://")),
		s.url("unix", "", "", "/nowhere"),
		s.url("redis", "", "127.0.0.1:1", "/0"),
		s.url("redis", "", "127.0.0.1:x", "/0"),
		s.url("rediss", "", "127.0.0.1:99999", "/0"),
		s.url("http", "", "127.0.0.1:1", "/0"),
		s.url("redis", "", "127.0.0.1:1", "/"+p),
		"redis://:%zz" + p + "@127.0.0.1:1",
		"redis://:" + hard + "@127.0.0.1:1",
		"redis://app:1/" + p + "@127.0.0.1:1",
		"redis://app:1?" + p + "@127.0.0.1:1",
		"redis://127.0.0.1:1#" + p + "@127.0.0.1:1",
		s.redisURL + "?db=" + p,
		s.redisURL + "?write_timeout=" + p,
		"unix://" + s.redisPath + "?password=" + p,
		p,
	} {
		commands.Go(func() error {
			_, err := (&cli.LogFlags{RedisURL: u}).Open(s.Context(), program, db, "")
			if err == nil {
				s.Errorf("%s is taken", u)
				return nil
			}
			s.keeps("status --json", err.Error()) // which prints it as it is
			return nil
		})
	}
	_ = commands.Wait()
	// The same from outside, once each.
	s.run(1, s.env("DATABASE_URL=postgres://app:"+hard+"@127.0.0.1:1/unilog"), "migrate")
	s.run(0, s.env("REDIS_URL=redis://app:1/"+p+"@127.0.0.1:1"), "status", "--json")
}

// wrongWords are arguments and files that errors might quote.
func (s *secrets) wrongWords() {
	s.Helper()
	for _, args := range [][]string{
		{"status", s.databaseURL},
		{"status", "--databse-url=" + s.databaseURL},
		{"status", "--timeout=" + s.databaseURL},
		{"api", "--port=" + s.redisURL},
		{"api", "host=127.0.0.1 password='" + s.in + "'"},
	} {
		s.run(cli.ExitUsage, s.env(), args...)
	}
	s.run(1, nil, "simulator", s.url("--url=ftp", "rider", "127.0.0.1", ""))
	s.run(0, s.env(), "streamer", "--help")
	s.run(1, s.env("API_TOKENS_FILE="+newTokens(s.T, "simulator "+s.in)), "api", "--port=0")
	s.run(1, s.env("API_TOKEN="+s.in+" "+s.in), "simulator", "--for=1ms")
	s.run(1, s.env(), "simulator", "--token-file="+newTokens(s.T, s.in+":"), "--for=1ms")
	for _, file := range []string{
		"not a setting\nSECRET=" + s.in,
		"SECRET='" + s.in,
		"DATABASE_URL='" + s.databaseURL,
	} {
		cmd := command(s.Context(), s.T, nil, "status")
		if err := os.WriteFile(filepath.Join(cmd.Dir, ".env"), []byte(file), 0o600); err != nil {
			s.Fatal(err)
		}
		out, err := cmd.CombinedOutput()
		s.keeps("a wrong .env", string(out))
		if err == nil || !strings.Contains(string(out), "read .env: ") {
			s.Errorf("with a wrong .env: %v\n%s", err, out)
		}
	}
}

// wholeSystem runs all processes, changes the passwords under them, and back.
func (s *secrets) wholeSystem() {
	s.Helper()
	port := freePort(s.T)
	up := command(s.Context(), s.T, s.env(), "up", fmt.Sprintf("--port=%d", port), "--rate=50")
	out, err := os.Create(filepath.Join(up.Dir, "out"))
	if err != nil {
		s.Fatal(err)
	}
	defer out.Close()
	up.Stdout, up.Stderr = out, out
	if err := up.Start(); err != nil {
		s.Fatal(err)
	}
	defer func() { _ = up.Process.Kill() }()
	seen := 0
	read := func() string {
		printed, err := os.ReadFile(out.Name())
		if err != nil {
			s.Fatal(err)
		}
		return string(printed)
	}
	// All of them say that, in lines that have not been seen yet.
	say := func(text string, names ...string) {
		s.Helper()
		await.That(s.T, fmt.Sprintf("%q to say %q", names, text), func() string {
			for _, name := range names {
				said := false
				for line := range strings.Lines(read()[seen:]) {
					said = said || strings.HasPrefix(line, fmt.Sprintf("%-9s | ", name)) && strings.Contains(line, text)
				}
				if !said {
					return name + " does not:\n" + read()[seen:]
				}
			}
			return ""
		})
		seen = len(read())
	}
	// Through pipes, and yet text, at the level that up was asked for.
	say(" INF api listens", "api")
	say(" INF request method=POST path=/rides status=201", "api")
	say(" INF published", "streamer")
	say(" INF consumed", "consumer0", "consumer1")
	for _, args := range [][]string{
		{"status"},
		{"consumers", "list"},
		{"deadletters", "list"},
		{"reconcile", "consumer0"},
		{"simulator", s.url("--url=http", "rider", fmt.Sprintf("127.0.0.1:%d", port), ""), "--for=100ms"},
	} {
		s.run(0, s.env(), args...)
	}
	s.redisPassword("another" + s.hard())
	say("WRONGPASS", "streamer", "consumer0", "consumer1")
	s.redisPassword(s.hard())
	say(" INF published", "streamer")
	say(" INF consumed", "consumer0", "consumer1")
	s.databasePassword("another" + s.hard())
	say("password authentication failed", "api", "streamer", "consumer0", "consumer1")
	s.databasePassword(s.hard())
	say(" INF consumed", "consumer0", "consumer1")
	if err := up.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if err := up.Wait(); err != nil {
		s.Errorf("up ended with %v", err)
	}
	s.run(0, s.env("LOG_FORMAT=json"), "up", fmt.Sprintf("--port=%d", port), "--for=1s")
	s.keeps("up", read())
	if s.Failed() {
		s.Logf("up says:\n%s", read())
	}
}
