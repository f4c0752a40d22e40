package private

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// StartRedis starts a Redis, or a Valkey, on o.Dir and waits until it has
// loaded its data and answers. ctx bounds the start, not the server's life.
//
// Errors that a person can mend are a *MissingError, *RunningError or
// *StartError, each of one line.
func StartRedis(ctx context.Context, o Options) (*Server, error) {
	o, lock, err := prepare(ctx, redis, o)
	if err != nil {
		return nil, err
	}
	s, err := startRedis(ctx, o, lock)
	if err != nil {
		lock.Unlock()
	}
	return s, err
}

// CheckRedis finds, without starting or changing anything, a *MissingError that
// StartRedis would fail with.
func CheckRedis(o Options) error {
	_, err := chooseRedis(o)
	return err
}

func chooseRedis(o Options) (bin string, err error) {
	if bin = o.find.lookup("redis-server", "valkey-server"); bin == "" {
		return "", &MissingError{"Redis", "redis-server or valkey (apt), valkey (dnf), redis (brew)"}
	}
	return bin, nil
}

func startRedis(ctx context.Context, o Options, lock *Lock) (*Server, error) {
	bin, err := chooseRedis(o)
	if err != nil {
		return nil, err
	}
	dir, err := socketDir(o.Dir, redisSocket, nil)
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, redisSocket)
	_ = os.Remove(filepath.Join(dir, cutSocket)) // of one that died while it was cut
	data := filepath.Join(o.Dir, "data")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, redisArgs(o, socket)...)
	// Not --dir: older versions split it at spaces.
	cmd.Dir = data
	s, err := launch(ctx, redis, o, lock, cmd, func(ctx context.Context) error { return ping(ctx, socket) })
	if err != nil {
		return nil, err
	}
	s.socket, s.url = dir, redisURL(socket)
	cli := "redis-cli"
	if o.find.lookup("redis-cli") == "" {
		cli = "valkey-cli"
	}
	s.attach = cli + " -s " + socket
	return s, nil
}

func redisArgs(o Options, socket string) []string {
	args := []string{
		"--port", "0", "--unixsocket", socket, "--unixsocketperm", "700",
		"--daemonize", "no", "--save", "", "--maxmemory-policy", "noeviction",
	}
	if o.Durable {
		args = append(args, "--appendonly", "yes", "--appendfsync", "always")
	} else {
		args = append(args, "--appendonly", "no")
	}
	if o.ConfigFile != "" {
		args = append([]string{o.ConfigFile}, args...)
	}
	return append(args, o.ExtraArgs...)
}

// ping returns nil once the server has its data in memory.
func ping(ctx context.Context, socket string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	answer, err := redisDo(ctx, socket, "PING")
	if err != nil && strings.Contains(err.Error(), "NOAUTH") {
		return nil // it asks for a password, which only its configuration knows
	}
	if err == nil && answer != "+PONG" {
		err = fmt.Errorf("redis says %s", answer)
	}
	return err
}
