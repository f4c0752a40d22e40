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
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/freeport"
	"github.com/rocketrides/unilog/internal/private"
	"github.com/rocketrides/unilog/internal/private/child"
)

// Pooler is a PgBouncer before a Postgres, both of a test's own.
type Pooler struct {
	// URL leads through the pooler, Direct past it.
	URL, Direct string

	t       testing.TB
	bin     string
	config  string
	process *child.Process
}

// PgBouncer starts one in a pool_mode: session or transaction. `make test-matrix` has
// it; elsewhere the test is skipped, or fails under CI.
func PgBouncer(t testing.TB, mode string) *Pooler {
	t.Helper()
	inSuite(t, "PgBouncer")
	p := &Pooler{t: t, bin: private.Tool(t.Context(), "pgbouncer")}
	if p.bin == "" && !inCI() {
		t.Skip("no PgBouncer to test with: make test-matrix ONLY=pgbouncer gets some")
	}
	// By TCP: as root, each would run as another user.
	port, own := freeport.Next(), own(t, private.StartPostgres, private.Options{
		InitCache: initCache(), Port: freeport.Next(), ExtraArgs: []string{"-c", "listen_addresses=127.0.0.1"},
	})
	p.Direct = own.URL()
	p.URL = (&url.URL{
		Scheme: "postgres", User: url.User("postgres"), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		Path: own.Options().Database, RawQuery: "sslmode=disable",
	}).String()
	text := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = %s
default_pool_size = 50
`, own.Options().Port, port, mode)
	if os.Geteuid() == 0 {
		text += "user = nobody\n" // it refuses to run as root
	}
	p.config = filepath.Join(own.Options().Dir, "pgbouncer.ini")
	if err := os.WriteFile(p.config, []byte(text), 0o644); err != nil {
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
