package testenv

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// All test binaries of a checkout share one Postgres and one Redis. Whoever comes
// first starts a keeper, which is the same binary in a session of its own: it starts
// each server when it is first asked for, and ends both when nobody has been
// connected to it for a while. The kernel closes the connections of a test binary
// however that ends, and the servers end with the keeper, however that ends.

// In the keeper's environment, its directory, and how long it lingers.
const (
	keeperVariable = "UNILOG_TEST_KEEPER"
	lingerVariable = "UNILOG_TEST_LINGER"
)

// checkout is the directory that has the tests, which start in their package's.
var checkout = func() string {
	start, _ := os.Getwd()
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir
		}
		if dir == filepath.Dir(dir) {
			return start
		}
	}
}()

// answer is what the keeper says to the name of a server.
type answer struct{ URL, Error string }

// sharedDir is the same for all test binaries of a checkout and user that find the
// servers on the same PATH.
func sharedDir() string {
	sum := sha256.Sum256([]byte(strconv.Itoa(os.Getuid()) + checkout + os.Getenv("PATH")))
	return filepath.Join(roof(), "rr"+hex.EncodeToString(sum[:4]))
}

func socketIn(dir string) string { return filepath.Join(dir, "keeper") }

// keeperClient is this process's side. Its connections stay open until the process
// ends.
type keeperClient struct {
	mu     sync.Mutex
	answer map[string]answer
	conns  []net.Conn
}

// url returns the URL of the shared server of a name: postgres or redis.
func (c *keeperClient) url(server string) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, known := c.answer[server]
	if !known {
		conn, got, err := ask(sharedDir(), server, lingers)
		if err != nil {
			return "", fmt.Errorf("shared %s: %w", server, err)
		}
		c.conns = append(c.conns, conn)
		if c.answer == nil {
			c.answer = map[string]answer{}
		}
		c.answer[server], a = got, got
	}
	if a.Error != "" {
		return "", errors.New(a.Error)
	}
	return a.URL, nil
}

func (c *keeperClient) close() {
	for _, conn := range c.conns {
		_ = conn.Close()
	}
}

// ask asks the keeper of a directory, and starts one where there is none.
func ask(dir, server string, linger time.Duration) (net.Conn, answer, error) {
	overdue := time.Now().Add(await.Patience)
	for {
		conn, err := net.Dial("unix", socketIn(dir))
		if err == nil {
			var a answer
			if _, err = fmt.Fprintln(conn, server); err == nil {
				err = json.NewDecoder(conn).Decode(&a)
			}
			if err == nil {
				return conn, a, nil
			}
			_ = conn.Close() // a keeper that ends just now
		}
		if time.Now().After(overdue) {
			return nil, answer{}, fmt.Errorf("its keeper does not answer: see %s: %w", logIn(dir), err)
		}
		if err := startKeeper(dir, linger); err != nil {
			return nil, answer{}, err
		}
	}
}

func logIn(dir string) string { return filepath.Join(dir, "keeper.log") }

// startKeeper returns when a keeper listens, be it this one or another, or when it
// has given up.
func startKeeper(dir string, linger time.Duration) error {
	if err := makeShared(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Not this process's output, for whose end `go test` waits.
	log, err := os.OpenFile(logIn(dir), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), keeperVariable+"="+dir, lingerVariable+"="+linger.String())
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{told} // closed when it listens, or ends
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = told.Close()
	if err != nil {
		return err
	}
	_, _ = ready.Read(make([]byte, 1))
	return cmd.Process.Release()
}

// makeShared makes the directory. Others could have made it to be in the way.
func makeShared(dir string) error {
	if err := os.Mkdir(dir, 0o711); err != nil && !os.IsExist(err) {
		return err
	}
	info, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.IsDir() || owner.Uid != uint32(os.Getuid()) {
		return fmt.Errorf("%s is not this user's directory: remove it", dir)
	}
	return os.Chmod(dir, 0o711) // root's Postgres has to pass through under another user
}
