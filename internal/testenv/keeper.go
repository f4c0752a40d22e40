package testenv

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/rocketrides/unilog/internal/private"
)

// lingers is how long a keeper waits for the next test binary. In a run the next one
// is often still being linked when the one before has ended.
const lingers = 10 * time.Second

// sharedPostgres bears the tests of several binaries at the same time.
var sharedPostgres = private.Options{
	InitCache: initCache(),
	ExtraArgs: []string{"-c", "max_connections=1000", "-c", "shared_buffers=64MB", "-c", "max_wal_size=256MB"},
}

// keeper has the servers that the test binaries of a checkout share.
type keeper struct {
	dir      string
	linger   time.Duration
	listener net.Listener
	servers  map[string]func() (*private.Server, error)

	mu      sync.Mutex
	started []*private.Server
	clients int
	idle    *time.Timer // ends the keeper, unless there are clients
	ended   bool
}

// A keeper is the binary of any package's tests: this comes before its TestMain,
// which may have ideas of its own what its environment means.
func init() {
	dir := os.Getenv(keeperVariable)
	if dir == "" {
		return
	}
	linger, err := time.ParseDuration(os.Getenv(lingerVariable))
	if err == nil {
		err = keep(dir, linger)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// keep serves until nobody needs the servers any more. That another keeper is there
// already is no error.
func keep(dir string, linger time.Duration) error {
	told := os.NewFile(3, "told")
	defer told.Close()
	lock, err := lockShared(dir)
	if lock == nil {
		return err
	}
	defer lock.Unlock()
	if err := empty(dir); err != nil { // of one that was killed
		return err
	}
	k := &keeper{dir: dir, linger: linger}
	if k.listener, err = net.Listen("unix", socketIn(dir)); err != nil {
		return err
	}
	_ = told.Close()
	k.servers = map[string]func() (*private.Server, error){
		"postgres": sync.OnceValues(func() (*private.Server, error) { return k.start("postgres", private.StartPostgres, sharedPostgres) }),
		"redis":    sync.OnceValues(func() (*private.Server, error) { return k.start("redis", private.StartRedis, private.Options{}) }),
	}
	k.serve()
	return k.end()
}

// lockShared returns no lock if a keeper serves that directory already. It waits
// for one that is about to begin or to end.
func lockShared(dir string) (*private.Lock, error) {
	for {
		lock, err := private.TakeLock(context.Background(), filepath.Join(dir, "lock"))
		if err == nil || !errors.As(err, new(*private.LockedError)) {
			return lock, err
		}
		conn, err := net.Dial("unix", socketIn(dir))
		if err == nil {
			return nil, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// empty removes what is in a directory, but what says who has it.
func empty(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch {
		case e.Name() == "lock" || path == logIn(dir):
		case e.IsDir():
			err = errors.Join(err, private.Remove(context.Background(), path))
		default:
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// serve returns when there has been no client for a while.
func (k *keeper) serve() {
	k.idle = time.AfterFunc(k.linger, k.enough)
	for {
		conn, err := k.listener.Accept()
		if err != nil {
			return
		}
		if !k.count(1) {
			_ = conn.Close()
			continue
		}
		go func() {
			defer k.count(-1)
			defer conn.Close()
			k.talk(conn)
		}()
	}
}

// count counts clients, and is false when it is too late for another one.
func (k *keeper) count(more int) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.clients += more; k.clients == 0 {
		k.idle.Reset(k.linger)
	}
	return !k.ended
}

func (k *keeper) enough() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.clients == 0 {
		k.ended = true
		_ = k.listener.Close()
	}
}

// talk answers one question, and returns when the one who asked is gone.
func (k *keeper) talk(conn net.Conn) {
	in := bufio.NewReader(conn)
	name, err := in.ReadString('\n')
	if err != nil {
		return
	}
	var a answer
	if start, ok := k.servers[strings.TrimSpace(name)]; !ok {
		a.Error = fmt.Sprintf("there is no server %q", name)
	} else if server, err := start(); err != nil {
		a.Error = err.Error()
	} else {
		a.URL = server.URL()
	}
	if json.NewEncoder(conn).Encode(a) == nil {
		_, _ = in.ReadByte()
	}
}

func (k *keeper) start(name string, start starter, o private.Options) (*private.Server, error) {
	o.Dir = filepath.Join(k.dir, name)
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	s, err := start(ctx, o)
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.started = append(k.started, s)
	}
	return s, err
}

// end ends the servers. Nothing of theirs is kept, so they need not end in order.
func (k *keeper) end() error {
	for _, s := range k.started {
		s.Quit()
	}
	return empty(k.dir)
}
