package private

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Redis that is cut has its socket under another name, where only this
// package looks for it.
const redisSocket, cutSocket = "redis.sock", "cut.sock"

// Do sends a Redis a command, which must have no spaces in its arguments, and
// returns its answer's first line if it is no error. It works on one that is cut, and
// waits for as long as ctx lets it.
func (s *Server) Do(ctx context.Context, command string) (string, error) {
	answer, err := redisDo(ctx, filepath.Join(s.socket, redisSocket), command)
	if errors.Is(err, fs.ErrNotExist) {
		answer, err = redisDo(ctx, filepath.Join(s.socket, cutSocket), command)
	}
	return answer, err
}

// Cut ends all connections to a Redis, which goes on running, and lets no new
// ones be made until Mend.
func (s *Server) Cut(ctx context.Context) error {
	// In this order, nobody can come back in between.
	if err := os.Rename(filepath.Join(s.socket, redisSocket), filepath.Join(s.socket, cutSocket)); err != nil {
		return err
	}
	for _, kind := range []string{"normal", "pubsub"} {
		if _, err := s.Do(ctx, "CLIENT KILL TYPE "+kind+" SKIPME yes"); err != nil {
			_ = s.Mend()
			return err
		}
	}
	return nil
}

// Mend lets connections be made again. A Redis that was started again meanwhile
// is mended already.
func (s *Server) Mend() error {
	from := filepath.Join(s.socket, cutSocket)
	err := os.Link(from, filepath.Join(s.socket, redisSocket))
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.Remove(from); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func redisDo(ctx context.Context, socket, command string) (string, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", socket)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
		return "", err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", err
	}
	answer = strings.TrimSpace(answer)
	if strings.HasPrefix(answer, "-") {
		return "", fmt.Errorf("redis says %s", answer)
	}
	return answer, nil
}
