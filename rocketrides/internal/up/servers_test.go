package up

import (
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rocketrides/unilog/internal/await"
)

// TestPrivateRedis empties a private Redis and cuts it off, which neither keeps
// it from being stopped nor from being started again.
func TestPrivateRedis(t *testing.T) {
	t.Parallel()
	cfg := controlled(fakeServers(t))
	cfg.RedisURL = ""
	r := start(t, cfg)
	r.await("look:")
	path := filepath.Join(cfg.DataDir, "redis", "socket", "redis.sock")
	redis := func(args ...string) string {
		t.Helper()
		out, _ := exec.Command("redis-cli", append([]string{"-s", path}, args...)...).CombinedOutput()
		return strings.TrimSpace(string(out))
	}
	if got := redis("SET", "a", "b") + redis("DBSIZE"); got != "OK1" {
		t.Errorf("got %s", got)
	}
	if refused := act(t, cfg, "empty-redis", "", 0); refused != "" {
		t.Fatal(refused)
	}
	if got := redis("DBSIZE"); got != "0" {
		t.Errorf("when it is emptied it has %s keys", got)
	}

	cut := func() {
		t.Helper()
		conn, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if refused := act(t, cfg, "cut-redis", "", 0); refused != "" {
			t.Fatal(refused)
		}
		if err := conn.SetReadDeadline(time.Now().Add(await.Patience)); err != nil {
			t.Fatal(err)
		}
		if n, err := conn.Read(make([]byte, 1)); err == nil || n != 0 || strings.Contains(err.Error(), "timeout") {
			t.Errorf("a connection is not cut: %d bytes, %v", n, err)
		}
		if _, err := net.Dial("unix", path); err == nil {
			t.Error("a new connection is made")
		}
		if !now(t, cfg).RedisCut {
			t.Error("the state is that nothing is cut")
		}
	}
	cut()
	if refused := act(t, cfg, "cut-redis", "", 0); !strings.Contains(refused, "cut off already") {
		t.Errorf("cut twice: %q", refused)
	}
	if refused := act(t, cfg, "mend-redis", "", 0); refused != "" || now(t, cfg).RedisCut || redis("PING") != "PONG" {
		t.Fatalf("mended, the answer is %q and the state %+v", refused, now(t, cfg))
	}
	if refused := act(t, cfg, "mend-redis", "", 0); !strings.Contains(refused, "not cut off") {
		t.Errorf("mended twice: %q", refused)
	}
	cut()
	if refused := act(t, cfg, "kill", "redis", 0); refused != "" {
		t.Fatal(refused)
	}
	r.await("redis answers again")
	if s := now(t, cfg); processOf(t, cfg, "redis").State != "running" || s.RedisCut || redis("PING") != "PONG" {
		t.Errorf("started again, the state is %+v", s)
	}
	cut()
	if err := r.stop(); err != nil {
		t.Error(err)
	}
	if strings.Contains(r.String(), "had to be killed") || strings.Contains(r.String(), "stays cut off") {
		t.Errorf("it says\n%s", r)
	}
}
