package up

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// patient runs until it is asked to stop, and notes that in a file.
const patient = `trap 'echo $0 >>"$1"; exit 0' TERM; echo runs; while :; do sleep 0.02; done`

func TestStopOrder(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	notes := filepath.Join(t.TempDir(), "notes")
	p := func(name string) Process { return sh(name, patient, notes) }
	cfg.Writers = [][]Process{{p("simulator")}, {p("api")}}
	cfg.Readers = [][]Process{{p("streamer")}, {p("c0"), p("c1")}}
	r := start(t, cfg)
	for _, name := range []string{"simulator", "api      ", "streamer ", "c0       ", "c1       "} {
		r.await(name + " | runs\n")
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(notes)
	got := strings.Join(strings.Fields(string(b)), " ")
	if err != nil || got != "simulator api streamer c0 c1" && got != "simulator api streamer c1 c0" {
		t.Errorf("stopped in the order %q, %v", got, err)
	}
}

func TestRestart(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	mark := filepath.Join(t.TempDir(), "mark")
	cfg.Writers = [][]Process{{sh("p", `echo "life $(cat "$1" 2>/dev/null)"; printf x >>"$1"; kill -9 $$`, mark)}}
	r := start(t, cfg)
	r.await("up | p died (signal: killed), starting it again in 100ms\np  | life x\n")
	r.await("p  | life xx\n")
	if !strings.Contains(r.String(), "p  | life x\nup | p died (signal: killed), starting it again in ") {
		t.Errorf("it says\n%s", r)
	}
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

func TestAudit(t *testing.T) {
	t.Parallel()
	for exit, want := range map[string]string{"0": "", "1": "exit status 1"} {
		t.Run("exit "+exit, func(t *testing.T) {
			t.Parallel()
			cfg := fakeServers(t)
			notes := filepath.Join(t.TempDir(), "notes")
			cfg.Writers = [][]Process{{sh("w", patient, notes)}}
			cfg.Readers = [][]Process{{sh("r", patient, notes)}}
			over := make(chan struct{})
			cfg.For, cfg.over = time.Hour, over
			cfg.Audit = sh("verify", `echo $0 >>"$1"; echo "the stream is $STREAM_NAME"; exit "$2"`, notes, exit)
			r := start(t, cfg)
			r.await("w      | runs\n")
			r.await("r      | runs\n")
			close(over)
			r.await("verify | the stream is s\n")
			err := r.end()
			if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
				t.Errorf("got %v", err)
			}
			b, err := os.ReadFile(notes)
			if got := strings.Join(strings.Fields(string(b)), " "); err != nil || got != "w verify r" {
				t.Errorf("order %q, %v", got, err)
			}
		})
	}
}

func TestInterruptedAudit(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	cfg.For = time.Hour
	r := start(t, cfg)
	r.await("look:")
	if err := r.stop(); err == nil {
		t.Error("no audit, no error")
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	taken := l.Addr().(*net.TCPAddr).Port
	cfg := fakeServers(t)
	cfg.Port = taken
	refused(t, cfg, "with --port")
	cfg = fakeServers(t)
	cfg.DashboardPort = taken
	refused(t, cfg, "with --dashboard-port")
}

// A database that a Postgres of another version made is refused, but may be
// removed.
func TestOtherVersion(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	cfg.DatabaseURL = ""
	dir, err := openDataDir(t.Context(), cfg.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	dir.close()
	data := filepath.Join(cfg.DataDir, "postgres", "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("9\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	refused(t, cfg, "--fresh")
	if err := os.Chmod(filepath.Dir(cfg.DataDir), 0o711); err != nil {
		t.Fatal(err)
	}
	// Past the checks, and no further.
	cfg.Fresh = true
	begun := errors.New("begun")
	cfg.Prepare = func(context.Context, string, string) error { return begun }
	if err := Run(await.Context(t, "the run"), cfg); !errors.Is(err, begun) {
		t.Errorf("with Fresh: %v", err)
	}
}

func TestNoPasswordOnScreen(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	cfg.RedisURL = "redis://localhost:6379#secret@localhost" // the # is not escaped
	r := start(t, cfg)
	r.await("look:")
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(r.String(), "secret") {
		t.Error("the password is shown")
	}
}

// Private servers that die come back, at the same place.
func TestPrivateServers(t *testing.T) {
	t.Parallel()
	cfg := fakeServers(t)
	cfg.DatabaseURL, cfg.RedisURL = "", ""
	// Root's Postgres has to pass.
	if err := os.Chmod(filepath.Dir(cfg.DataDir), 0o711); err != nil {
		t.Fatal(err)
	}
	r := start(t, cfg)
	r.await("look:")
	attach := func() {
		t.Helper()
		out, err := exec.CommandContext(await.Context(t, "answers of the servers"), "sh", "-ec", `. "$1"; psql -Atc 'SELECT 40 + 2' "$DATABASE_URL"; redis-cli -s "${REDIS_URL#unix://}" PING`,
			"sh", filepath.Join(cfg.DataDir, "env")).CombinedOutput()
		if err != nil || string(out) != "42\nPONG\n" {
			t.Errorf("got %s, %v", out, err)
		}
	}
	attach()
	b, err := os.ReadFile(filepath.Join(cfg.DataDir, "postgres", "data", "postmaster.pid"))
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(b), "\n")
	pid, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.await("postgres died (signal: killed), starting it again in 100ms\n")
	r.await("postgres answers again\n")
	attach()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
}

// kill -9 leaves nothing behind: the processes hold a pipe's write end, and
// its reader sees the end when they have gone.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "UP_TEST_FIFO="+fifo, "UP_TEST_DIR="+filepath.Join(dir, "data"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	began, over := make(chan error, 1), make(chan error, 1)
	go func() {
		f, err := os.Open(fifo) // waits for the writer
		if err != nil {
			began <- err
			return
		}
		defer f.Close()
		in := bufio.NewReader(f)
		_, err = in.ReadString('\n')
		began <- err
		_, err = io.Copy(io.Discard, in)
		over <- err
	}()
	err := await.Receive(t, "the process to run", began)
	if killed := cmd.Process.Kill(); err != nil || killed != nil {
		t.Fatal(err, killed)
	}
	_ = cmd.Wait()
	if err := await.Receive(t, "the end of its process", over); err != nil {
		t.Fatal(err)
	}
	// The directory is free again.
	d, err := openDataDir(t.Context(), filepath.Join(dir, "data"))
	if err != nil {
		t.Fatal(err)
	}
	d.close()
}
