package private

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/redis/rueidis"
	"go.uber.org/goleak"

	"github.com/rocketrides/unilog/internal/await"
)

type starter func(context.Context, Options) (*Server, error)

var starters = map[string]starter{"postgres": StartPostgres, "redis": StartRedis}

// TestMain doubles as the parent that TestParentKilled kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("PRIVATE_TEST_PARENT"); dir != "" {
		s, err := starters[filepath.Base(dir)](context.Background(), Options{Dir: dir, Durable: true})
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(s.Pid())
		select {}
	}
	goleak.VerifyTestMain(m)
}

// tempDir is short, and one that Postgres can reach when we are root.
func tempDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rr-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

func run(t *testing.T, start starter, o Options) *Server {
	t.Helper()
	s, err := start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// add counts how often it was called on the state that the server keeps.
func add(t *testing.T, s *Server) (n int64) {
	t.Helper()
	if strings.HasPrefix(s.URL(), "unix:") {
		o, err := rueidis.ParseURL(s.URL())
		if err != nil {
			t.Fatal(err)
		}
		o.DisableCache, o.Dialer.Timeout, o.ConnWriteTimeout = true, await.Patience, await.Patience
		c, err := rueidis.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if n, err = c.Do(t.Context(), c.B().Incr().Key("n").Build()).AsInt64(); err != nil {
			t.Fatal(err)
		}
		return n
	}
	conn, err := pgx.Connect(t.Context(), s.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err = conn.Exec(t.Context(), `CREATE TABLE IF NOT EXISTS n (i int); INSERT INTO n VALUES (1)`); err == nil {
		err = conn.QueryRow(t.Context(), `SELECT count(*) FROM n`).Scan(&n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func each(t *testing.T, f func(t *testing.T, name string, start starter)) {
	t.Parallel()
	for name, start := range starters {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, name, start)
		})
	}
}

func TestRestartKeepsData(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		o := Options{Dir: filepath.Join(tempDir(t), "a dir"), Durable: true}
		s := run(t, start, o)
		if n := add(t, s); n != 1 {
			t.Errorf("n = %d at first", n)
		}
		if s.Err() != nil {
			t.Errorf("it runs, and Err is %v", s.Err())
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if s.Err() != nil {
			t.Errorf("after Stop: %v", s.Err())
		}
		url := s.URL()
		s = run(t, start, s.Options())
		if n := add(t, s); n != 2 {
			t.Errorf("n = %d after a restart", n)
		}
		if s.URL() != url {
			t.Errorf("URL was %s, is %s", url, s.URL())
		}
	})
}

func TestKillAndRestart(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		s := run(t, start, Options{Dir: tempDir(t), Durable: true})
		add(t, s)
		for i := range 3 {
			if err := s.Kill(); err != nil {
				t.Fatal(err)
			}
			<-s.Done()
			if got := fmt.Sprint(s.Err()); got != "signal: killed" {
				t.Errorf("Err = %s", got)
			}
			s = run(t, start, s.Options())
			if n := add(t, s); n != int64(i+2) {
				t.Errorf("n = %d after %d kills", n, i+1)
			}
		}
	})
}

// Postgres that is not durable still survives its own death.
func TestKillNotDurable(t *testing.T) {
	t.Parallel()
	s := run(t, StartPostgres, Options{Dir: tempDir(t)})
	add(t, s)
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
	if n := add(t, run(t, StartPostgres, s.Options())); n != 2 {
		t.Errorf("n = %d", n)
	}
}

// The servers inherit the parent's standard error: it ends when they have.
func TestParentKilled(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		dir := filepath.Join(tempDir(t), name)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "PRIVATE_TEST_PARENT="+dir)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
		// The lock is free only when the servers have gone.
		s := run(t, start, Options{Dir: dir, Durable: true})
		if fmt.Sprintln(s.Pid()) == line {
			t.Error("the same process answers")
		}
		add(t, s)
	})
}

func TestRunningAlready(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		s := run(t, start, Options{Dir: tempDir(t)})
		_, err := start(t.Context(), s.Options())
		if e, ok := err.(*RunningError); !ok || e.Owner != os.Getpid() {
			t.Errorf("got %v", err)
		}
		oneLine(t, err)
		if err := Remove(t.Context(), s.Options().Dir); err == nil {
			t.Error("removed while it runs")
		}
	})
}

func TestDeepDirectory(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		dir := filepath.Join(tempDir(t), strings.Repeat("very deep/", 30))
		s := run(t, start, Options{Dir: dir})
		if n := add(t, s); n != 1 {
			t.Errorf("n = %d", n)
		}
		info, err := os.Stat(s.socket)
		if err != nil || info.Mode() != fs.ModeDir|0o700 {
			t.Errorf("socket directory: %v, %v", info.Mode(), err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.socket); err == nil {
			t.Error("the socket directory is left behind")
		}
		s = run(t, start, Options{Dir: dir})
		if err := s.Kill(); err != nil {
			t.Fatal(err)
		}
		<-s.Done()
		if err := Remove(t.Context(), dir); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(s.socket); err == nil {
			t.Error("Remove leaves the socket directory")
		}
	})
}

// What Attach says works in a shell.
func TestAttach(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		s := run(t, start, Options{Dir: tempDir(t)})
		input := map[string]string{"postgres": "SELECT 'po' || 'ng'", "redis": "EVAL \"return 'po'..'ng'\" 0"}[name]
		cmd := exec.Command("sh", "-c", s.Attach())
		cmd.Stdin = strings.NewReader(input)
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "pong") {
			t.Errorf("%s: %v\n%s", s.Attach(), err, out)
		}
	})
}

func TestBadArgument(t *testing.T) {
	each(t, func(t *testing.T, name string, start starter) {
		_, err := start(t.Context(), Options{Dir: tempDir(t), ExtraArgs: []string{"--no-such-thing=1"}})
		if _, ok := err.(*StartError); !ok {
			t.Errorf("got %v", err)
		}
		oneLine(t, err)
	})
}

func oneLine(t *testing.T, err error) {
	t.Helper()
	t.Log(err)
	if strings.Contains(err.Error(), "\n") {
		t.Error("more than one line")
	}
}

// TestDurableSettings sees that a durable server has on disk what it confirms,
// and that Redis drops nothing when it is full.
func TestDurableSettings(t *testing.T) {
	t.Parallel()
	postgres := run(t, StartPostgres, Options{Dir: filepath.Join(tempDir(t), "postgres"), Durable: true})
	conn, err := pgx.Connect(t.Context(), postgres.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	for name, want := range map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "listen_addresses": ""} {
		var got string
		if err := conn.QueryRow(t.Context(), `SELECT current_setting($1)`, name).Scan(&got); err != nil || got != want {
			t.Errorf("Postgres: %s is %q, %v; want %q", name, got, err, want)
		}
	}

	redis := run(t, StartRedis, Options{Dir: filepath.Join(tempDir(t), "redis"), Durable: true})
	option, err := rueidis.ParseURL(redis.URL())
	if err != nil {
		t.Fatal(err)
	}
	option.DisableCache, option.ForceSingleClient = true, true
	option.Dialer.Timeout, option.ConnWriteTimeout = await.Patience, await.Patience
	client, err := rueidis.NewClient(option)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for name, want := range map[string]string{"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "port": "0"} {
		got, err := client.Do(t.Context(), client.B().ConfigGet().Parameter(name).Build()).AsStrMap()
		if err != nil || got[name] != want {
			t.Errorf("Redis: %s is %q, %v; want %q", name, got[name], err, want)
		}
	}
}
