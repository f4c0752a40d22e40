package testenv

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/private/child"
)

// Pooler is a PgBouncer before a Postgres.
type Pooler struct {
	// URL leads through the pooler, Direct past it.
	URL, Direct string

	t       testing.TB
	bin     string
	config  string
	process *child.Process
}

// PgBouncer starts one in a pool_mode, session or transaction, before a Postgres of the
// test's own. `make test-matrix` has it; elsewhere the test is skipped, or fails under CI.
func PgBouncer(t testing.TB, mode string) *Pooler {
	t.Helper()
	inSuite(t, "PgBouncer")
	bin := private.Tool(t.Context(), "pgbouncer")
	if bin == "" && !inCI() {
		t.Skip("no PgBouncer to test with: make test-matrix ONLY=pgbouncer gets some")
	}
	// By TCP: as root, each would run as another user.
	own := own(t, private.StartPostgres, private.Options{
		InitCache: initCache(), Port: freeport.Next(), ExtraArgs: []string{"-c", "listen_addresses=127.0.0.1"},
	})
	database := own.Options().Database
	p := startPooler(t, bin, "nobody", database,
		fmt.Sprintf("* = host=127.0.0.1 port=%d user=postgres pool_mode=%s pool_size=50", own.Options().Port, mode))
	p.Direct = own.URL()
	return p
}

// ManagedPooler starts a PgBouncer before a database, given by its URL. It gives sessions
// of it to everybody as "shared", and to each client its own as "kept", which URL names.
// `make test-managed` installs it; elsewhere the test is skipped, or fails under CI.
func ManagedPooler(t testing.TB, direct string) *Pooler {
	t.Helper()
	inSuite(t, "Managed")
	bin := private.Tool(t.Context(), "pgbouncer")
	if bin == "" { // which not everybody has on the PATH
		bin, _ = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if bin == "" && !inCI() {
		t.Skip("no PgBouncer to test with: make test-managed installs it")
	}
	config, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	way := fmt.Sprintf("host=%s port=%d dbname=%s user=%s", config.Host, config.Port, config.Database, config.User)
	// As the server's own user, whose socket nobody else can enter.
	p := startPooler(t, bin, "postgres", "kept",
		"shared = "+way+" pool_mode=transaction pool_size=4", "kept = "+way+" pool_mode=session pool_size=10")
	p.Direct = direct
	return p
}

// startPooler starts one that gives what the lines say, of which URL names one. For root
// it runs as another user: it refuses to run as that.
func startPooler(t testing.TB, bin, user, database string, databases ...string) *Pooler {
	t.Helper()
	port := freeport.Next()
	p := &Pooler{t: t, bin: bin, URL: (&url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path: database, RawQuery: "sslmode=disable",
	}).String()}
	text := fmt.Sprintf(`[databases]
%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
`, strings.Join(databases, "\n"), port)
	if os.Geteuid() == 0 {
		text += "user = " + user + "\n"
	}
	dir, err := os.MkdirTemp("", "pgbouncer") // which that user can enter
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	p.config = filepath.Join(dir, "pgbouncer.ini")
	err = os.Chmod(dir, 0o755)
	if err == nil {
		err = os.WriteFile(p.config, []byte(text), 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	t.Cleanup(p.Kill)
	return p
}

// Start starts the pooler, once more after Kill, and waits until it answers.
func (p *Pooler) Start() {
	p.t.Helper()
	log, err := os.OpenFile(p.config+".log", os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(p.bin, p.config)
	cmd.Stdout, cmd.Stderr = log, log
	if p.process, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	await.That(p.t, "PgBouncer to answer", func() string {
		conn, err := pgx.Connect(context.Background(), p.URL)
		if err == nil {
			err = conn.Close(context.Background())
		}
		if err == nil {
			return ""
		}
		said, _ := os.ReadFile(log.Name())
		return err.Error() + ": it says " + string(said)
	})
}

// Kill ends the pooler with SIGKILL, and so all connections through it.
func (p *Pooler) Kill() {
	_ = p.process.Signal(syscall.SIGKILL)
	<-p.process.Done()
}
