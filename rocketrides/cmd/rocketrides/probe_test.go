package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/rocketrides/unilog/internal/testenv"
)

func TestProbe(t *testing.T) {
	t.Parallel()
	t.Cleanup(http.DefaultClient.CloseIdleConnections)
	_, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t))
	none := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	execute(t, []string{"ADMIN_LISTEN=" + none}, "probe").fails(t, 1, "not alive")
	for _, c := range []struct{ name, command, flag string }{
		{"ADMIN_LISTEN=127.0.0.1:%d", "streamer", "--seed=1"},
		{"ADMIN_LISTEN=127.0.0.1:%d", "api", "--port=0"},
		{"API_PORT=%d", "api", "--listen=127.0.0.1"},
	} {
		port := freePort(t)
		env := append(env, fmt.Sprintf(c.name, port))
		p := start(t, env, c.command, c.flag)
		answers(t, fmt.Sprintf("http://127.0.0.1:%d/healthz", port), 200, "ok")
		untilSaid(t, env, "", "probe")
		p.stop()
	}
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	execute(t, []string{"ADMIN_LISTEN=" + other.Listener.Addr().String()}, "probe").fails(t, 1, "answers 404 Not Found")
}
