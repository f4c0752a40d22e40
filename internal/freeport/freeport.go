// Package freeport finds ports for servers that are to be started. They are below
// those that the system gives to clients, and each is given once, to one process of those
// that ask here: whoever got one finds it free, also when its server is started again.
package freeport

import (
	"context"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

const from, below = 10240, 32768

var (
	mu    sync.Mutex
	given = map[int]*os.File{} // and the file whose lock keeps others from it
)

// Next returns a TCP port of 127.0.0.1 on which nobody listens. It is this process's
// until the process ends.
func Next() int {
	mu.Lock()
	defer mu.Unlock()
	for {
		port := from + rand.IntN(below-from)
		if _, is := given[port]; is {
			continue
		}
		file, free := reserve(port)
		if !free {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			_ = file.Close()
			continue
		}
		_ = listener.Close()
		given[port] = file
		return port
	}
}

// reserve locks a port's file, unless another process has. Where no such file can be
// made, ports are free.
func reserve(port int) (file *os.File, free bool) {
	dir := filepath.Join(os.TempDir(), "unilog-ports-"+strconv.Itoa(os.Getuid()))
	_ = os.Mkdir(dir, 0o700)
	file, err := os.OpenFile(filepath.Join(dir, strconv.Itoa(port)), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, true
	}
	if syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		_ = file.Close()
		return nil, false
	}
	return file, true
}
