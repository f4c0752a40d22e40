package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rocketrides/unilog/internal/await"
	"github.com/rocketrides/unilog/internal/testenv"
)

// The dashboard understands what the processes log, and ends at SIGTERM although
// somebody looks.
func TestDashboard(t *testing.T) {
	t.Parallel()
	pool, env := database(t)
	env = append(env, "REDIS_URL="+testenv.SharedRedis(t), "STREAM_NAME="+testenv.StreamName(t), "SIMULATE_FAILURES=0.5", "SEED=1")

	lines := make(chan string, 10_000)
	socket := filepath.Join(t.TempDir(), "up")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	up := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			_ = http.NewResponseController(w).Flush()
			select {
			case line := <-lines:
				_, _ = io.WriteString(w, line+"\n")
			case <-r.Context().Done():
				return
			}
		}
	}))
	_ = up.Listener.Close()
	up.Listener = ln
	up.Start()
	defer up.Close()
	pass := func(p *process, source string) {
		for line := range p.lines {
			attrs := map[string]any{}
			if json.Unmarshal([]byte(line), &attrs) != nil {
				continue
			}
			entry := map[string]any{"time": attrs["time"], "source": source, "level": attrs["level"], "msg": attrs["msg"], "attrs": attrs}
			if text, err := json.Marshal(map[string]any{"log": entry}); err == nil {
				lines <- string(text)
			}
		}
	}
	port := freePort(t)
	d := start(t, append(env, "ROCKETRIDES_CONTROL="+socket), "dashboard", fmt.Sprintf("--port=%d", port))
	d.says("dashboard listens")
	go pass(start(t, append(env, "LOG_FORMAT=json"), "streamer"), "streamer")
	go pass(start(t, append(env, "LOG_FORMAT=json"), "consumer", "consumer1"), "consumer1")

	resp, err := (&http.Client{Timeout: await.Patience}).Get(fmt.Sprintf("http://127.0.0.1:%d/events", port))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	wanted := []string{
		`"refused","source":"streamer","text":"streamer failed after publishing 1 record; sent it again; the log refused it."`,
		`"simulated","source":"consumer1","text":"consumer1 crashed before saving 1 record; nothing changed, and it starts again from its checkpoint."`,
	}
	events := bufio.NewScanner(resp.Body)
	events.Buffer(nil, 1<<20)
	for len(wanted) > 0 && events.Scan() {
		exec1(t, pool, `WITH ride AS (INSERT INTO rides (distance) VALUES (1.5) RETURNING id, distance)
			INSERT INTO unilog.staged_records (action, object, data)
			SELECT 'create', 'ride', jsonb_build_object('id', id, 'distance', distance) FROM ride`)
		for i, want := range wanted {
			if strings.Contains(events.Text(), want) {
				wanted = append(wanted[:i:i], wanted[i+1:]...)
				break
			}
		}
	}
	if len(wanted) > 0 {
		t.Fatalf("no notes say %q: %v", wanted, events.Err())
	}
	d.terminate()
	for events.Scan() { // what was on its way
	}
	execute(t, env, "dashboard", "--listen=192.0.2.1").fails(t, 1, "choose another address with --listen")
}
