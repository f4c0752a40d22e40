// Package freeport finds ports for servers that are to be started. They are below
// those that the system gives to clients, and each is given once: whoever got one
// finds it free, also when its server is started again.
package freeport

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
)

const from, below = 10240, 32768

var (
	mu    sync.Mutex
	given = map[int]bool{}
)

// Next returns a TCP port of 127.0.0.1 on which nobody listens.
func Next() int {
	mu.Lock()
	defer mu.Unlock()
	for {
		port := from + rand.IntN(below-from)
		if given[port] {
			continue
		}
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = listener.Close()
		given[port] = true
		return port
	}
}
